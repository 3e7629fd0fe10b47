//! The same file as an object: it goes through the storage room, as one of a bucket does.

use crate::memory::{FOLDER, MemoryFile};
use state::storage::StorageSettings;
use storage::Storage;
use stream_worker::source::mp4::Parts;
use stream_worker::source::stream::Stream;
use tokio::runtime::{Builder, Runtime};

thread_local! {
    static PLACE: (MemoryFile, Runtime) =
        (MemoryFile::new(), Builder::new_current_thread().enable_time().build().expect("a runtime"));
}

/// Does something with a file that holds these bytes, and with a runtime for what reads it as an object.
pub fn in_memory(bytes: &[u8], work: impl FnOnce(&MemoryFile, &Runtime)) {
    PLACE.with(|(file, runtime)| {
        file.fill(bytes);
        work(file, runtime);
    });
}

/// Nothing of it yet.
///
/// # Panics
/// When the storage room does not find the file.
pub async fn parts(file: &MemoryFile) -> Parts {
    let storage = Storage::open(StorageSettings::local(FOLDER), None).expect("a folder");
    let media = storage.stat(&file.name()).await.expect("a file");
    Parts::new(Stream::new(storage, file.name(), media.content, media.size))
}
