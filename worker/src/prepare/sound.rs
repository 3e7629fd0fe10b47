//! The sound: measured, changed by one gain throughout, encoded in one run, exactly as long as the picture.

use super::clock;
use super::loudness::{self, Change, Measured};
use super::step::{Bench, Ended, Share};
use super::work::Work;
use crate::source::child;
use crate::source::object::Input;
use crate::source::probe::MediaInfo;
use crate::source::recipe;
use state::prepared::{Job, Loudness, Stage};
use state::profile::Profile;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Encoded this often at most until the loudness is right.
const TRIES: usize = 4;

/// A sound track, ready to be joined.
#[derive(Debug)]
pub(super) struct Sound {
    /// Where it is.
    pub(super) path: PathBuf,
    /// Before and after; `None` for silence.
    pub(super) loudness: Option<Loudness>,
    /// Length of the original's, ms.
    pub(super) heard_ms: f64,
}

/// Makes the sound for a picture of `length_ms`. `None` when the file has none after all.
///
/// # Errors
/// In words.
pub(super) async fn make(
    bench: &mut Bench<'_>,
    job: &Job,
    work: &Work,
    input: &Path,
    info: &MediaInfo,
    length_ms: f64,
) -> Result<Option<Sound>, String> {
    let Some(track) = &info.audio else { return Ok(None) };
    let along = clock::read_along(input, info, track.index);
    let original =
        Track { path: input, stream: track.index, along: &along, profile: &job.profile, length_ms };
    let heard = original.listen(bench).await?;
    let heard_ms = heard.progress.time_ms as f64;
    let (path, measured) = (work.file("sound.mp4.tmp"), loudness::parse(&heard.words));
    let Some(before) = measured else {
        original.encode(bench, Change::NONE, &path).await?;
        return Ok(Some(Sound { path, loudness: None, heard_ms }));
    };
    let (change, after) = adjust(bench, &original, job, before, &path).await?;
    let loudness = Loudness {
        input_lufs: before.lufs,
        input_peak_dbtp: before.peak_dbtp,
        gain_db: (change.gain_db * 100.0).round() / 100.0,
        limited: change.limit_db.is_some(),
        output_lufs: after.lufs,
        output_peak_dbtp: after.peak_dbtp,
    };
    Ok(Some(Sound { path, loudness: Some(loudness), heard_ms }))
}

/// Encodes, measures what came out, and does it again while that is too far off.
async fn adjust(
    bench: &mut Bench<'_>,
    original: &Track<'_>,
    job: &Job,
    before: Measured,
    to: &Path,
) -> Result<(Change, Measured), String> {
    let mut change = Change::first(before, job.loudness);
    let made = Track { path: to, stream: 0, along: &[], ..*original };
    let mut tries = 1;
    loop {
        original.encode(bench, change, to).await?;
        let words = made.listen(bench).await?.words;
        let after = loudness::parse(&words).ok_or("the encoded sound is silent")?;
        match change.corrected(after, job.loudness) {
            Some(next) if tries < TRIES => (change, tries) = (next, tries + 1),
            _ => return Ok((change, after)),
        }
    }
}

#[derive(Clone, Copy)]
struct Track<'a> {
    path: &'a Path,
    stream: u32,
    /// What is read along for the clock.
    along: &'a [OsString],
    profile: &'a Profile,
    length_ms: f64,
}

impl Track<'_> {
    async fn listen(&self, bench: &mut Bench<'_>) -> Result<Ended, String> {
        let filter = format!("{},ebur128=peak=true:framelog=verbose", self.house());
        let mut list = self.input();
        list.extend(["-af".into(), filter.into()]);
        list.extend(recipe::words("-f null pipe:2"));
        list.extend_from_slice(self.along);
        bench.run(list, self.share(Stage::Listen)).await
    }

    async fn encode(&self, bench: &mut Bench<'_>, change: Change, to: &Path) -> Result<(), String> {
        let (house, change, end) = (self.house(), change.filters(), self.length_ms / 1000.0);
        let filter = format!("{house},{change}apad=whole_dur={end:.6},atrim=end={end:.6}");
        let Profile { sample_rate, channels, audio_kbps, .. } = self.profile;
        let mut list = self.input();
        list.extend(["-af".into(), filter.into()]);
        list.extend(recipe::words(&format!("-c:a aac -ar {sample_rate} -ac {channels} -b:a {audio_kbps}k")));
        list.extend(recipe::words("-map_metadata -1 -map_chapters -1 -f mp4"));
        list.push(child::file_argument(to));
        list.extend_from_slice(self.along);
        bench.run(list, self.share(Stage::Sound)).await.map(drop)
    }

    fn input(&self) -> Vec<OsString> {
        let mut list = Input::File(self.path.to_owned()).arguments();
        list.extend(recipe::words(&format!("-map 0:{} -vn -sn -dn", self.stream)));
        list
    }

    /// In the profile's rate and channels, as it is measured and as it is encoded: from the item's zero on, holes
    /// filled with silence.
    fn house(&self) -> String {
        let layout = if self.profile.channels == 1 { "mono" } else { "stereo" };
        let rate = self.profile.sample_rate;
        format!(
            "aresample=async=1:first_pts=0,\
             aformat=sample_fmts=fltp:sample_rates={rate}:channel_layouts={layout}"
        )
    }

    fn share(&self, stage: Stage) -> Share {
        Share { stage, before_ms: 0, total_ms: self.length_ms as u64, frame_ms: None }
    }
}
