//! RTMP(S) push: one task, one bounded queue and one retry owner per destination.
