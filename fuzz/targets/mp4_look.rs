//! Any bytes as an MP4 file of which is to be said what ffprobe would say. What it says of must be read natively too.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use stream_fuzz::memory::MemoryFile;
use stream_fuzz::mp4::mutate;
use stream_fuzz::object;
use stream_worker::source::mp4::{Ask, Reader, look};
use stream_worker::source::recipe::{decide, profile_of};
use tokio::runtime::{Builder, Runtime};

thread_local! {
    static PLACE: (MemoryFile, Runtime) =
        (MemoryFile::new(), Builder::new_current_thread().enable_time().build().expect("a runtime"));
}

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    if seed.is_multiple_of(8) {
        fuzzer_mutate(data, size, max_size)
    } else {
        mutate(data, size, max_size, seed)
    }
});

fuzz_target!(|bytes: &[u8]| {
    PLACE.with(|(file, runtime)| {
        file.fill(bytes);
        let Ok(info) = look(&file.path()) else { return };
        let of_object = runtime.block_on(async { object::parts(file).await.look().await });
        assert!(of_object.as_ref().is_ok_and(|(of_object, _)| *of_object == info), "{info:?}");
        let video = info.video.as_ref().expect("a picture");
        let audio = info.audio.as_ref().map(|audio| audio.index);
        let opened = Reader::open(&file.path(), Ask { video: video.index, audio, from_ms: 0 });
        assert!(opened.is_ok(), "{info:?} and then {:?}", opened.err());
        let profile = profile_of(&info).unwrap_or_default();
        assert!(profile.problems().is_empty());
        let _ = decide(&info, &profile);
    });
});
