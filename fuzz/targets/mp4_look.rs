//! Any bytes as an MP4 file of which is to be said what ffprobe would say. What it says of must be read natively too.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use stream_fuzz::mp4::mutate_either_way;
use stream_fuzz::object;
use stream_worker::source::mp4::{Ask, Reader, look};
use stream_worker::source::recipe::{decide, profile_of};

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate_either_way(data, size, max_size, seed)
});

fuzz_target!(|bytes: &[u8]| {
    object::in_memory(bytes, |file, runtime| {
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
