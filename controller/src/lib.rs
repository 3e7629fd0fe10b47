//! The controller: its API, the wishes it keeps, and the supervisor of the workers.
//!
//! `http → engines → supervisor → wishes`; nothing calls the other way.

pub mod alerts;
pub mod app;
pub mod config;
pub mod crowd;
pub mod engines;
pub mod error;
pub mod ffmpeg;
pub mod http;
pub mod machine;
pub mod media;
pub mod notify;
pub mod outbound;
pub mod prepare;
pub mod records;
pub mod successor;
pub mod supervisor;
pub mod wishes;

/// Runs what may wait for a disk on another thread, so that nobody else waits with it.
///
/// A panic in `work` goes on here.
pub(crate) async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
