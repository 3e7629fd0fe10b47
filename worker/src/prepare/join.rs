//! Putting picture and sound into one MP4 file with its index in front, without encoding anything.

use super::clock;
use super::picture::{Picture, Source};
use super::sound::Sound;
use super::step::{Bench, Share};
use super::work::Work;
use crate::source::child;
use crate::source::object::Input;
use crate::source::probe::MediaInfo;
use crate::source::recipe;
use state::prepared::Stage;
use state::profile::Rate;
use std::path::PathBuf;

/// Joins the tracks.
///
/// # Errors
/// In words.
pub(super) async fn join(
    bench: &mut Bench<'_>,
    work: &Work,
    info: &MediaInfo,
    picture: &Picture,
    sound: Option<&Sound>,
) -> Result<PathBuf, String> {
    let to = work.result();
    let (mut list, stream) = match &picture.source {
        Source::Original(path, stream) => (Input::File(path.clone()).arguments(), *stream),
        Source::Parts(parts, profile) => {
            let file = work.file("parts.ffconcat");
            std::fs::write(&file, parts_list(parts, profile.fps)).map_err(|error| error.to_string())?;
            let mut list = recipe::words("-f concat -safe 1 -protocol_whitelist file -i");
            list.push(child::file_argument(&file));
            (list, 0)
        }
    };
    if let Some(sound) = sound {
        list.extend(Input::File(sound.path.clone()).arguments());
    }
    list.extend(recipe::words(&format!("-map 0:{stream}")));
    if sound.is_some() {
        list.extend(recipe::words("-map 1:a:0"));
    }
    list.extend(recipe::words("-map_metadata -1 -map_chapters -1 -c copy -movflags +faststart -f mp4"));
    list.push(child::file_argument(&to));
    if let Source::Original(path, stream) = &picture.source {
        list.extend(clock::read_along(path, info, *stream));
    }
    let total_ms = picture.length_ms as u64;
    bench.run(list, Share { stage: Stage::Join, before_ms: 0, total_ms, frame_ms: None }).await?;
    Ok(to)
}

/// FFmpeg's list of files. Each length is told, so that no rounding of a file's own adds up.
fn parts_list(parts: &[(PathBuf, u64)], fps: Rate) -> String {
    let micros = |pictures: u64| (pictures as f64 * fps.frame_ms() * 1000.0).round() as u64;
    let (mut text, mut begin) = ("ffconcat version 1.0\n".to_owned(), 0);
    for (path, pictures) in parts {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let length = micros(begin + pictures) - micros(begin);
        begin += pictures;
        text += &format!("file {name}\nduration {}.{:06}\n", length / 1_000_000, length % 1_000_000);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_parts_add_up_whatever_the_rate() {
        let parts: Vec<_> = (0..100).map(|n| (PathBuf::from(format!("/w/{n}.mp4")), 1800)).collect();
        let text = parts_list(&parts, Rate { num: 30_000, den: 1001 });
        let lengths = text.lines().filter_map(|line| line.strip_prefix("duration "));
        let sum: f64 = lengths.map(|length| length.parse::<f64>().unwrap()).sum();
        assert!((sum - 180_000.0 * 1001.0 / 30_000.0).abs() < 0.000_01, "{sum}");
        assert!(text.starts_with("ffconcat version 1.0\nfile 0.mp4\nduration 60.060000\n"), "{text}");
    }
}
