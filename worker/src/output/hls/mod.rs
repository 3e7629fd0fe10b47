//! HLS: MPEG-TS segments and a media playlist, written by the worker and served by others.
