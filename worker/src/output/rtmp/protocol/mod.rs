//! The bytes of RTMP (Adobe RTMP 1.0): values, chunks, handshake, control messages and the way to
//! `NetStream.Publish.Start`. Works on any stream of bytes; knows no sockets, no clocks and no retries.

pub mod amf;
pub mod chunk;
pub mod handshake;
pub mod metadata;
pub mod peer;
pub mod publish;
pub mod url;
