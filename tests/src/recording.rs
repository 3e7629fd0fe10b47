//! A recording, decoded: every picture with its time and code, the sound with its time, every packet.

use crate::media::{ffmpeg, run};
use crate::picture::{self, Reading};
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

/// Size at which pictures are read.
const SIZE: (usize, usize) = (160, 90);
/// Rate at which the sound is read, Hz.
pub const RATE: u32 = 48_000;

/// A decoded recording. Times are seconds of the recording's own clock.
#[derive(Debug, Clone, Default)]
pub struct Recording {
    /// Pictures in the order of their presentation.
    pub pictures: Vec<Picture>,
    /// The sound.
    pub sound: Sound,
    /// Packets in the order of the file.
    pub packets: Vec<Packet>,
    /// What the decoders complained about.
    pub decode_errors: Vec<String>,
}

/// One decoded picture.
#[derive(Debug, Clone, Copy)]
pub struct Picture {
    /// Presentation time.
    pub pts: f64,
    /// What it says.
    pub reading: Reading,
}

/// Decoded sound, mono at [`RATE`], with the time of each piece.
#[derive(Debug, Clone, Default)]
pub struct Sound {
    /// All samples back to back.
    pub samples: Vec<f32>,
    /// First sample and presentation time of each decoded frame.
    pub pieces: Vec<(usize, f64)>,
}

impl Sound {
    /// Presentation time of a sample, by the timestamp of the frame that it came in.
    pub fn time_of(&self, sample: usize) -> f64 {
        let after = self.pieces.partition_point(|(start, _)| *start <= sample);
        let Some((start, pts)) = self.pieces[..after].last() else { return 0.0 };
        pts + (sample - start) as f64 / f64::from(RATE)
    }
}

/// One packet as the container gives it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Packet {
    /// Picture, else sound.
    pub video: bool,
    /// Presentation time.
    pub pts: f64,
    /// Decoding time.
    pub dts: f64,
    /// Whether the container flags it as a key frame.
    pub key: bool,
}

impl Recording {
    /// Decodes a file or address: all that FFmpeg can open and that ends.
    pub fn read(input: &Path) -> Result<Self> {
        let work = tempfile::tempdir().context("make a work folder")?;
        let (luma, mut errors) = decode(input, work.path(), Track::Video)?;
        let (pcm, sound_errors) = decode(input, work.path(), Track::Audio)?;
        errors.extend(sound_errors);
        let pictures = times(&work.path().join("v.crc"))?
            .into_iter()
            .zip(luma.chunks_exact(SIZE.0 * SIZE.1))
            .map(|((pts, _), luma)| Picture { pts, reading: picture::read(luma, SIZE.0, SIZE.1) })
            .collect();
        let sound = sound(&pcm, &times(&work.path().join("a.crc"))?);
        Ok(Self { pictures, sound, packets: packets(input)?, decode_errors: errors })
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Track {
    Video,
    Audio,
}

/// Raw frames on stdout; their times go into `v.crc` or `a.crc` in `work`.
fn decode(input: &Path, work: &Path, track: Track) -> Result<(Vec<u8>, Vec<String>)> {
    let scale = format!("scale={}:{}:flags=area,format=gray", SIZE.0, SIZE.1);
    let (options, name): (Vec<&str>, _) = match track {
        Track::Video => {
            // Microseconds keep the container's own times; the frame rate's grid would bend them.
            let time = ["-enc_time_base", "1:1000000", "-vsync", "passthrough"];
            (["-map", "0:v:0?", "-vf", &scale, "-c:v", "rawvideo"].into_iter().chain(time).collect(), "v.crc")
        }
        Track::Audio => (
            vec!["-map", "0:a:0?", "-ar", "48000", "-ac", "1", "-c:a", "pcm_f32le", "-sample_fmt", "flt"],
            "a.crc",
        ),
    };
    let format = if track == Track::Video { "rawvideo" } else { "f32le" };
    let crc = work.join(name);
    std::fs::write(&crc, "").context("make the list of times")?;
    let mut command = ffmpeg();
    command.args(["-copyts", "-i"]).arg(input).args(options).args(["-f", "tee"]);
    command.arg(format!("[f={format}]pipe:1|[f=framecrc]{}", crc.display()));
    let output = command.stderr(Stdio::piped()).output().context("start ffmpeg")?;
    let errors = complaints(&String::from_utf8_lossy(&output.stderr), track);
    Ok((output.stdout, errors))
}

/// What decoders and demuxers said. Not the parser, which speaks as `NULL`, nor the decoder that looks at the first
/// second when a file is opened, which speaks from the same address (and where only the sound is asked for, alone): they
/// read the pictures after a change of parameters with those of before, and nothing that they read is shown.
fn complaints(stderr: &str, track: Track) -> Vec<String> {
    let address =
        |line: &str| Some(line.strip_prefix('[')?.split_once("] ")?.0.split_once(" @ ")?.1.to_owned());
    let parsers: BTreeSet<_> =
        stderr.lines().filter(|l| l.starts_with("[NULL @")).filter_map(address).collect();
    let mut of_parser = false;
    let mut heard = |line: &&str| {
        let looks_on = track == Track::Audio && line.starts_with("[h264 @");
        let own = looks_on || address(line).is_some_and(|address| parsers.contains(&address));
        of_parser = own || of_parser && line.contains("Last message repeated");
        !of_parser && !line.contains("does not contain any stream")
    };
    stderr.lines().filter(|line| heard(line)).map(str::to_owned).collect()
}

/// Presentation time and size in bytes of every frame in a `framecrc` list.
fn times(list: &Path) -> Result<Vec<(f64, usize)>> {
    let text = std::fs::read_to_string(list).context("read the list of times")?;
    let mut base = 1.0;
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("#tb 0: ") {
            let (num, den) = rest.split_once('/').context("read the time base")?;
            base = num.trim().parse::<f64>()? / den.trim().parse::<f64>()?;
        } else if !line.starts_with('#') {
            let fields: Vec<&str> = line.split(',').map(str::trim).collect();
            let [_, _, pts, _, size, ..] = fields[..] else { bail!("odd line in the list of times: {line}") };
            found.push((pts.parse::<f64>()? * base, size.parse()?));
        }
    }
    Ok(found)
}

fn sound(pcm: &[u8], times: &[(f64, usize)]) -> Sound {
    let samples = pcm.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let mut start = 0;
    let pieces = times
        .iter()
        .map(|(pts, size)| {
            let piece = (start, *pts);
            start += size / 4;
            piece
        })
        .collect();
    Sound { samples, pieces }
}

fn packets(input: &Path) -> Result<Vec<Packet>> {
    let mut command = Command::new("ffprobe");
    command.args([
        "-v",
        "error",
        "-show_entries",
        "packet=codec_type,pts_time,dts_time,flags",
        "-of",
        "compact=p=0",
    ]);
    let text = String::from_utf8_lossy(&run(command.arg(input))?).into_owned();
    Ok(text.lines().filter_map(packet).collect())
}

fn packet(line: &str) -> Option<Packet> {
    let field = |name: &str| line.split('|').find_map(|f| f.strip_prefix(name)?.strip_prefix('='));
    let dts: f64 = field("dts_time")?.parse().ok()?;
    Some(Packet {
        video: field("codec_type")? == "video",
        pts: field("pts_time").and_then(|t| t.parse().ok()).unwrap_or(dts),
        dts,
        key: field("flags").is_some_and(|f| f.contains('K')),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoders_are_heard_and_the_parser_is_not() {
        let said = "[h264 @ 0x1] at the opening\n[NULL @ 0x1] illegal\n    Last message repeated 2 times\n\
                    [h264 @ 0x2] error while decoding\n    Last message repeated 1 times\n";
        assert_eq!(
            complaints(said, Track::Video),
            ["[h264 @ 0x2] error while decoding", "    Last message repeated 1 times"]
        );
        let said =
            "[h264 @ 0x1] at the opening\n    Last message repeated 2 times\n[aac @ 0x2] error in a frame\n";
        assert_eq!(complaints(said, Track::Audio), ["[aac @ 0x2] error in a frame"]);
    }
}
