//! One clock for both tracks, although each is read by a run of FFmpeg of its own.
//!
//! FFmpeg counts an item's time from its first picture or sound. But in formats whose clocks may jump (MPEG-TS and
//! its like) it leaves out tracks that nobody reads, so that a picture that begins after its sound would begin with
//! it. There the other track is read along, and dropped.

use crate::source::probe::MediaInfo;
use crate::source::recipe;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Arguments for a further output, which reads along what `used` is not.
pub(super) fn read_along(path: &Path, info: &MediaInfo, used: u32) -> Vec<OsString> {
    if has_index(path) {
        return Vec::new();
    }
    let tracks = [info.video.as_ref().map(|v| v.index), info.audio.as_ref().map(|a| a.index)];
    let others = tracks.into_iter().flatten().filter(|&stream| stream != used);
    others.flat_map(|stream| recipe::words(&format!("-map 0:{stream} -c copy -f null pipe:2"))).collect()
}

/// Whether a file is of a kind whose index finds key frames: MP4 and its family (ISO/IEC 14496-12), or Matroska.
pub(super) fn has_index(path: &Path) -> bool {
    let mut head = [0u8; 8];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && is_indexed(head)
}

fn is_indexed(head: [u8; 8]) -> bool {
    let boxes: [&[u8]; 6] = [b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"];
    head[..4] == [0x1A, 0x45, 0xDF, 0xA3] || boxes.contains(&&head[4..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transport_stream_has_no_index() {
        assert!(is_indexed(*b"\0\0\0\x20ftyp") && is_indexed([0x1A, 0x45, 0xDF, 0xA3, 0, 0, 0, 0]));
        assert!(!is_indexed([0x47, 0x40, 0x11, 0x10, 0, 0, 0, 0]) && !is_indexed(*b"RIFF\0\0\0\0"));
    }
}
