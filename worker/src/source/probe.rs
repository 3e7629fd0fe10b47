//! What a media file is, as ffprobe says; never guessed from its name.

use super::child::{self, Tools};
use super::disk;
use super::object::Input;
use serde::Deserialize;
use state::profile::Rate;
use std::path::Path;
use std::time::Duration;

/// Longest time that probing a file may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// The same over the network.
const LINK_DEADLINE: Duration = Duration::from_secs(20);
/// Most that ffprobe may print.
const MAX_ANSWER: usize = 1024 * 1024;

/// A media file's first picture track and first sound track.
#[derive(Debug, Clone, PartialEq)]
pub struct MediaInfo {
    /// Length in ms, where the file says.
    pub duration_ms: Option<u64>,
    /// Whether the file has an index, so that its lengths can be relied on: without one they are the difference of
    /// two times, and times may jump.
    pub indexed: bool,
    /// The picture; cover art does not count.
    pub video: Option<VideoInfo>,
    /// The sound.
    pub audio: Option<AudioInfo>,
}

impl MediaInfo {
    /// Where its pictures end, ms of the item, where the file can be relied on.
    pub fn pictures_end_ms(&self) -> Option<u64> {
        let video = self.video.as_ref().filter(|_| self.indexed)?;
        Some(video.begins_ms + video.duration_ms?)
    }
}

/// A picture track.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct VideoInfo {
    /// Index of the stream in the file.
    pub index: u32,
    /// FFmpeg's name of the codec.
    pub codec: String,
    /// FFmpeg's name of the profile.
    pub profile: String,
    /// FFmpeg's name of the pixel format.
    pub pixels: String,
    /// FFmpeg's name of the matrix that makes colours of the planes; empty where the file does not say.
    pub matrix: String,
    /// FFmpeg's name of the colours that are mixed; empty where the file does not say.
    pub primaries: String,
    /// FFmpeg's name of the curve that makes light of the numbers; empty where the file does not say.
    pub transfer: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Average frame rate.
    pub fps: Option<Rate>,
    /// Lowest rate that all frame times fit; far from `fps` when the rate varies.
    pub base_fps: Option<Rate>,
    /// Whether it is coded in fields.
    pub interlaced: bool,
    /// Whether pixels are square.
    pub square: bool,
    /// Degrees that a player must turn it.
    pub rotation: i32,
    /// kbit/s, where known.
    pub kbps: Option<u32>,
    /// Length in ms, where known.
    pub duration_ms: Option<u64>,
    /// When its first picture comes after the start of the file, ms.
    pub begins_ms: u64,
}

impl VideoInfo {
    /// Whether it has more light than an ordinary picture (ITU-R BT.2100: PQ or HLG).
    pub fn is_hdr(&self) -> bool {
        matches!(self.transfer.as_str(), "smpte2084" | "arib-std-b67")
    }
}

/// A sound track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioInfo {
    /// Index of the stream in the file.
    pub index: u32,
    /// FFmpeg's name of the codec.
    pub codec: String,
    /// FFmpeg's name of the profile.
    pub profile: String,
    /// Hz.
    pub sample_rate: u32,
    /// Channels.
    pub channels: u32,
    /// kbit/s, where known.
    pub kbps: Option<u32>,
}

/// Asks ffprobe about a file.
///
/// # Errors
/// Why the file cannot be played, in words for its owner.
pub async fn probe(tools: &Tools, path: &Path) -> Result<MediaInfo, String> {
    is_there(path).await?;
    probe_input(tools, &Input::File(path.to_owned())).await
}

/// Whether a file can be asked about at all.
///
/// # Errors
/// Why not, in words for its owner.
pub(super) async fn is_there(path: &Path) -> Result<(), String> {
    let size = disk::metadata(path).await.map_err(|error| format!("cannot be opened: {error}"))?.len();
    if size > 0 { Ok(()) } else { Err("is empty (0 bytes)".to_owned()) }
}

/// Asks ffprobe about a file or an object.
///
/// # Errors
/// Why it cannot be played, in words for its owner.
pub async fn probe_input(tools: &Tools, input: &Input) -> Result<MediaInfo, String> {
    let mut command = child::command(&tools.ffprobe, &tools.secrets_free_environment());
    command.args(QUESTION).args(input.arguments());
    let deadline = if matches!(input, Input::Link(_)) { LINK_DEADLINE } else { DEADLINE };
    let answer = child::answer(command, deadline, MAX_ANSWER).await?;
    parse(&answer)
}

/// What ffprobe is asked before the input; [`parse`] reads the answer.
pub const QUESTION: [&str; 6] = ["-v", "error", "-of", "json", "-show_entries", ENTRIES];

const ENTRIES: &str = "format=format_name,duration,start_time,bit_rate:stream=start_time,index,codec_type,codec_name,\
    profile,pix_fmt,width,height,color_space,color_primaries,color_transfer,avg_frame_rate,r_frame_rate,field_order,\
    sample_aspect_ratio,sample_rate,channels,bit_rate,duration\
    :stream_disposition=attached_pic:stream_side_data=rotation:stream_tags=rotate";

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    streams: Vec<Stream>,
    #[serde(default)]
    format: Format,
}

#[derive(Deserialize, Default)]
struct Format {
    format_name: Option<String>,
    start_time: Option<String>,
    duration: Option<String>,
    bit_rate: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Stream {
    start_time: String,
    index: u32,
    codec_type: String,
    codec_name: String,
    profile: String,
    pix_fmt: String,
    color_space: String,
    color_primaries: String,
    color_transfer: String,
    width: u32,
    height: u32,
    avg_frame_rate: String,
    r_frame_rate: String,
    field_order: String,
    sample_aspect_ratio: String,
    sample_rate: String,
    channels: u32,
    bit_rate: String,
    duration: String,
    disposition: Disposition,
    side_data_list: Vec<SideData>,
}

#[derive(Deserialize, Default)]
struct Disposition {
    #[serde(default)]
    attached_pic: u8,
}

#[derive(Deserialize)]
struct SideData {
    rotation: Option<f64>,
}

/// Reads ffprobe's JSON.
///
/// # Errors
/// When it is not JSON or names no track that can be played.
pub fn parse(answer: &[u8]) -> Result<MediaInfo, String> {
    let answer: Answer =
        serde_json::from_slice(answer).map_err(|_| "ffprobe's answer is not JSON".to_owned())?;
    let of_type = |wanted: &'static str| answer.streams.iter().filter(move |s| s.codec_type == wanted);
    let total = kbps(answer.format.bit_rate.as_deref().unwrap_or_default());
    let picture = of_type("video").find(|s| s.disposition.attached_pic == 0 && s.width > 0 && s.height > 0);
    let began = answer.format.start_time.as_deref().and_then(seconds).unwrap_or(0.0);
    let video = picture.map(|s| video_info(s, total, began));
    let audio = of_type("audio").find(|s| s.channels > 0).map(audio_info);
    if video.is_none() && audio.is_none() {
        return Err("holds neither picture nor sound".to_owned());
    }
    let duration_ms = answer.format.duration.as_deref().and_then(millis);
    let indexed = !matches!(answer.format.format_name.as_deref(), Some("mpegts" | "mpeg" | "mp3" | "aac"));
    Ok(MediaInfo { duration_ms, indexed, video, audio })
}

fn video_info(stream: &Stream, total_kbps: Option<u32>, file_began: f64) -> VideoInfo {
    VideoInfo {
        index: stream.index,
        codec: stream.codec_name.clone(),
        profile: stream.profile.clone(),
        pixels: stream.pix_fmt.clone(),
        matrix: stream.color_space.clone(),
        primaries: stream.color_primaries.clone(),
        transfer: stream.color_transfer.clone(),
        width: stream.width,
        height: stream.height,
        fps: Rate::parse(&stream.avg_frame_rate),
        base_fps: Rate::parse(&stream.r_frame_rate),
        interlaced: !matches!(stream.field_order.as_str(), "" | "progressive" | "unknown"),
        square: matches!(stream.sample_aspect_ratio.as_str(), "" | "1:1" | "0:1" | "N/A"),
        rotation: stream.side_data_list.iter().find_map(|d| d.rotation).unwrap_or(0.0).round() as i32,
        kbps: kbps(&stream.bit_rate).or(total_kbps),
        duration_ms: millis(&stream.duration),
        begins_ms: begins_ms(&stream.start_time, file_began),
    }
}

fn audio_info(stream: &Stream) -> AudioInfo {
    AudioInfo {
        index: stream.index,
        codec: stream.codec_name.clone(),
        profile: stream.profile.clone(),
        sample_rate: stream.sample_rate.parse().unwrap_or(0),
        channels: stream.channels,
        kbps: kbps(&stream.bit_rate),
    }
}

/// When a track begins after the file does, of the times that are printed of them, ms.
pub(super) fn begins_ms(start: &str, file_began: f64) -> u64 {
    ((seconds(start).unwrap_or(file_began) - file_began).max(0.0) * 1000.0).round() as u64
}

/// Printed bits as thousands of them.
pub(super) fn kbps(text: &str) -> Option<u32> {
    text.parse::<u64>().ok().map(|bits| (bits / 1000).min(u64::from(u32::MAX)) as u32)
}

/// A printed time.
pub(super) fn seconds(text: &str) -> Option<f64> {
    text.parse().ok().filter(|s: &f64| s.is_finite() && s.abs() < 1e9)
}

/// A printed time in ms; `None` for nothing.
pub(super) fn millis(text: &str) -> Option<u64> {
    let seconds = seconds(text)?;
    (seconds > 0.0).then(|| (seconds * 1000.0).round() as u64)
}

/// A time in ticks as ffprobe prints it, so that it is rounded as often.
pub(super) fn time_text(ticks: u64, timescale: u32) -> String {
    format!("{:.6}", ticks as f64 * (1.0 / f64::from(timescale)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cover_art_is_no_picture_and_the_first_tracks_count() {
        let text = r#"{"streams":[
            {"index":0,"codec_type":"video","codec_name":"mjpeg","width":500,"height":500,"disposition":{"attached_pic":1}},
            {"index":1,"codec_type":"audio","codec_name":"aac","profile":"LC","sample_rate":"44100","channels":2,"bit_rate":"128000"}],
            "format":{"duration":"3.500000"}}"#;
        let info = parse(text.as_bytes()).unwrap();
        assert_eq!(info.video, None);
        assert_eq!(info.audio.unwrap().sample_rate, 44_100);
        assert_eq!(info.duration_ms, Some(3500));
    }

    #[test]
    fn nothing_playable_is_said_in_words() {
        assert_eq!(parse(br#"{"streams":[],"format":{}}"#).unwrap_err(), "holds neither picture nor sound");
        assert!(parse(b"oops").is_err());
    }
}
