//! Any bytes where ffprobe's answer is expected, and what is decided on them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use state::profile::Profile;
use stream_worker::source::object::Input;
use stream_worker::source::probe::parse;
use stream_worker::source::recipe::{arguments, decide, profile_of};

fuzz_target!(|bytes: &[u8]| {
    let Ok(info) = parse(bytes) else { return };
    let _ = info.pictures_end_ms();
    let profile = profile_of(&info).unwrap_or_default();
    assert!(profile.problems().is_empty());
    for profile in [profile, Profile::default()] {
        if let Ok(recipe) = decide(&info, &profile) {
            let list = arguments(&Input::File("/item.mp4".into()), (&info, &recipe, &profile), None, 1);
            assert!(list.len() < 200);
        }
    }
});
