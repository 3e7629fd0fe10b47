//! Writes an FLV file (Adobe FLV 10.1, annex E): RTMP messages as they came, with their timestamps.

use rml_rtmp::rml_amf0::{self, Amf0Value};
use rml_rtmp::sessions::StreamMetadata;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// Type of a tag (E.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    Audio = 8,
    Video = 9,
    Script = 18,
}

/// An open FLV file. Every tag is written at once, so that the file can be read while it grows.
#[derive(Debug)]
pub(super) struct FlvFile {
    file: File,
    bytes: u64,
}

impl FlvFile {
    /// Makes the file and writes its header.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let mut file = File::create(path)?;
        file.write_all(b"FLV\x01\x05\0\0\0\x09\0\0\0\0")?;
        Ok(Self { file, bytes: 13 })
    }

    /// Appends a tag; `ms` is the message's timestamp.
    pub(super) fn tag(&mut self, tag: Tag, ms: u32, body: &[u8]) -> io::Result<()> {
        let size = u32::try_from(body.len()).ok().filter(|s| *s < 1 << 24);
        let size = size.ok_or_else(|| io::Error::other("a message of 16 MB or more"))?;
        let time = ms.to_be_bytes();
        let mut out = Vec::with_capacity(body.len() + 15);
        out.push(tag as u8);
        out.extend_from_slice(&size.to_be_bytes()[1..]);
        out.extend_from_slice(&[time[1], time[2], time[3], time[0], 0, 0, 0]);
        out.extend_from_slice(body);
        out.extend_from_slice(&(size + 11).to_be_bytes());
        self.bytes += out.len() as u64;
        self.file.write_all(&out)
    }

    /// Bytes written.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Puts the file on the disk.
    pub(super) fn close(self) -> io::Result<()> {
        self.file.sync_all()
    }
}

/// The body of an onMetaData tag.
pub(super) fn on_meta_data(metadata: &StreamMetadata) -> Vec<u8> {
    let numbers = [
        ("width", metadata.video_width.map(f64::from)),
        ("height", metadata.video_height.map(f64::from)),
        ("framerate", metadata.video_frame_rate.map(f64::from)),
        ("videocodecid", metadata.video_codec_id.map(f64::from)),
        ("videodatarate", metadata.video_bitrate_kbps.map(f64::from)),
        ("audiocodecid", metadata.audio_codec_id.map(f64::from)),
        ("audiodatarate", metadata.audio_bitrate_kbps.map(f64::from)),
        ("audiosamplerate", metadata.audio_sample_rate.map(f64::from)),
    ];
    let mut fields: HashMap<String, Amf0Value> =
        numbers.into_iter().filter_map(|(k, v)| Some((k.to_owned(), Amf0Value::Number(v?)))).collect();
    if let Some(stereo) = metadata.audio_is_stereo {
        fields.insert("stereo".into(), Amf0Value::Boolean(stereo));
    }
    let values = vec![Amf0Value::Utf8String("onMetaData".into()), Amf0Value::Object(fields)];
    // Only strings over 64 kB cannot be written, and there are none.
    rml_amf0::serialize(&values).unwrap_or_default()
}

/// Whether a video message holds an IDR picture (NAL unit type 5); `nal_size` is the length field's size in bytes.
pub(super) fn has_idr(body: &[u8], nal_size: usize) -> bool {
    let mut rest = match body {
        [head, 1, _, _, _, rest @ ..] if head & 0x0F == 7 => rest,
        _ => return false,
    };
    while let Some((length, after)) = rest.split_at_checked(nal_size) {
        let length = length.iter().fold(0usize, |sum, b| sum << 8 | usize::from(*b));
        if after.first().is_some_and(|b| b & 0x1F == 5) {
            return true;
        }
        let Some(next) = after.get(length..) else { return false };
        rest = next;
    }
    false
}

/// Size of the length fields that an AVC sequence header announces, bytes; `None` for other messages.
pub(super) fn nal_size(body: &[u8]) -> Option<usize> {
    match body {
        [head, 0, _, _, _, _, _, _, _, size, ..] if head & 0x0F == 7 => Some(usize::from(size & 3) + 1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idr_is_found_behind_other_units_and_a_key_flag_is_not_enough() {
        let with = [0x17, 1, 0, 0, 0, 0, 0, 0, 2, 0x67, 1, 0, 0, 0, 2, 0x65, 9];
        let without = [0x17, 1, 0, 0, 0, 0, 0, 0, 2, 0x61, 9];
        assert!(has_idr(&with, 4));
        assert!(!has_idr(&without, 4));
        assert!(!has_idr(&with[..12], 4), "cut short");
        assert!(!has_idr(&[0xAF, 1, 0x65], 4), "sound");
    }

    #[test]
    fn times_past_24_bits_go_into_the_extension() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.flv");
        let mut file = FlvFile::create(&path).unwrap();
        file.tag(Tag::Audio, 0x8123_4567, &[1, 2]).unwrap();
        file.close().unwrap();
        let bytes = std::fs::read(path).unwrap();
        assert_eq!(bytes[13..], [8, 0, 0, 2, 0x23, 0x45, 0x67, 0x81, 0, 0, 0, 1, 2, 0, 0, 0, 13]);
    }
}
