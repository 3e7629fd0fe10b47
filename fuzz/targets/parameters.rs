//! Any bytes where parameter sets, NAL units and AAC configurations are expected.

#![no_main]

use libfuzzer_sys::fuzz_target;
use stream_worker::source::asc;
use stream_worker::source::buffer::has_idr;
use stream_worker::source::parameters::{header_for, nal_units};

fuzz_target!(|bytes: &[u8]| {
    let _ = asc::problem(bytes);
    let Some((choice, rest)) = bytes.split_first() else { return };
    let length_size = usize::from(choice & 3) + 1;
    let (present, picture) = rest.split_at(rest.len().min(usize::from(choice >> 2)));
    let sum: usize = nal_units(picture, length_size).map(<[u8]>::len).sum();
    assert!(sum <= picture.len());
    let _ = has_idr(picture, length_size);
    if let Some(header) = header_for(picture, length_size, present) {
        assert!(header.len() <= picture.len() + 32);
        // What it says is known from then on.
        assert_eq!(header_for(picture, length_size, &header), None);
    }
});
