//! Where a channel is sent: destinations read, checked, changed and shown. Knows nothing of HTTP and of how a worker
//! is told; the supervisor compares what is wanted with what the worker knows.

pub mod change;
mod edit;
mod keys;
pub(crate) mod links;
pub mod outputs;
pub mod rotation;
pub mod shown;
pub mod trial;

pub use edit::{Expected, add, all, change, one, remove};
