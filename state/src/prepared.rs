//! Files that were prepared once for a profile: how they are named and certified, and what the controller and the
//! process that prepares one say to each other.
//!
//! A result is `<cache>/prepared/<name>.mp4` with its certificate `<name>.json` beside it. The certificate is written
//! last, so that a result without one does not exist. Under a prefix of the bucket they have the same names.

use crate::Timestamp;
use crate::profile::Profile;
use crate::storage::StorageSettings;
use crate::wire::{ItemSpec, Making};
use serde::{Deserialize, Serialize};
use std::fs::{File, Metadata};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Counts the ways in which files have been prepared: results of another way are not used.
pub const SETTINGS: u32 = 2;

/// Why an item was passed over: it needs a transcode that this machine has no time for now.
pub const WAITS: &str = "waits to be prepared";

/// What a result is called, without an ending: it changes with the file, its content, the profile, and with
/// [`SETTINGS`].
pub fn name(key: &str, content: &str, profile: &Profile) -> String {
    format!("{}-{}-{SETTINGS}", name_of_file(key, content), profile.fingerprint())
}

/// What the names of all results of a file begin with, whatever the profile.
pub fn name_of_file(key: &str, content: &str) -> String {
    let text = [key.as_bytes(), content.as_bytes()].join(&0);
    let digest = ring::digest::digest(&ring::digest::SHA256, &text);
    digest.as_ref().iter().take(16).map(|b| format!("{b:02x}")).collect()
}

/// What tells the content of a file on this machine from another, as `storage` says it, too: its size and the time
/// of its last change.
pub fn content_of(file: &Metadata) -> String {
    let changed = file.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    format!("{}-{}", file.len(), changed.as_nanos())
}

/// The folder of results.
pub fn folder(cache: &Path) -> PathBuf {
    cache.join("prepared")
}

/// The result of this name and its certificate.
pub fn files(cache: &Path, name: &str) -> (PathBuf, PathBuf) {
    let folder = folder(cache);
    (folder.join(format!("{name}.mp4")), folder.join(format!("{name}.json")))
}

/// The result for an item under a profile, to be used, if there is one: see [`look`]. The time of its last change
/// becomes now, by which the cache knows what is used.
pub fn find(cache: &Path, item: &ItemSpec, profile: &Profile) -> Option<(PathBuf, Certificate)> {
    let found = look(cache, item, profile)?;
    // One that cannot be marked as used is still a result.
    let _ = File::open(&found.0).and_then(|file| file.set_modified(SystemTime::now()));
    Some(found)
}

/// The result for an item under a profile, if there is one whose certificate is about just this. Reads the disk.
///
/// An item whose content is not known has none: it could be that of an older file.
pub fn look(cache: &Path, item: &ItemSpec, profile: &Profile) -> Option<(PathBuf, Certificate)> {
    if item.content.is_empty() {
        return None;
    }
    let (media, certificate) = files(cache, &name(&item.key, &item.content, profile));
    let certificate: Certificate = serde_json::from_slice(&std::fs::read(certificate).ok()?).ok()?;
    let size = std::fs::metadata(&media).ok()?.len();
    (certificate.is_about(item, profile) && certificate.size == size).then_some((media, certificate))
}

/// What is known of a result, measured on the result itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// Of this form: [`SETTINGS`].
    pub settings: u32,
    /// The key of the original.
    pub key: String,
    /// Its content.
    pub content: String,
    /// What it was made into.
    pub profile: Profile,
    /// When.
    pub made_at: Timestamp,
    /// How its picture was made.
    pub video: Making,
    /// How its sound was made.
    pub audio: Making,
    /// Why it was prepared, in words.
    pub reason: String,
    /// SHA-256 of the AVCDecoderConfigurationRecord and the AudioSpecificConfig, hexadecimal: files of equal
    /// parameters can follow each other without new headers.
    pub parameters: String,
    /// Pictures.
    pub frames: u64,
    /// Where it can be entered.
    pub idr: IdrList,
    /// End of the sound minus end of the picture, ms.
    pub av_end_skew_ms: f64,
    /// Before and after; `None` where there is no sound to be measured.
    pub loudness: Option<Loudness>,
    /// How loud it was to become.
    #[serde(default)]
    pub target: LoudnessTarget,
    /// Length of the picture, ms.
    pub duration_ms: u64,
    /// Bytes.
    pub size: u64,
}

impl Certificate {
    /// Whether it is about this content under this profile, made as results are made now.
    pub fn is_about(&self, item: &ItemSpec, profile: &Profile) -> bool {
        let same = (&self.key, &self.content, &self.profile) == (&item.key, &item.content, profile);
        same && self.settings == SETTINGS
    }

    /// Whether it is as loud as it shall be; one that has no sound always is.
    pub fn is_as_loud_as(&self, target: LoudnessTarget) -> bool {
        self.loudness.is_none() || self.target == target
    }
}

/// The IDR pictures of a result.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdrList {
    /// How many.
    pub count: u64,
    /// Largest distance from one to the next, or from the last one to the end, ms.
    pub widest_ms: i64,
    /// When they are shown, ms; at most the first 10,000.
    pub at_ms: Vec<i64>,
}

/// Loudness before and after (ITU-R BS.1770, EBU R 128).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Loudness {
    /// Integrated loudness of the original in the profile's channels, LUFS.
    pub input_lufs: f64,
    /// Its true peak, dBTP.
    pub input_peak_dbtp: f64,
    /// What was added throughout, dB.
    pub gain_db: f64,
    /// Whether peaks had to be limited.
    pub limited: bool,
    /// Integrated loudness of the result, LUFS.
    pub output_lufs: f64,
    /// Its true peak, dBTP.
    pub output_peak_dbtp: f64,
}

/// How loud results shall be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LoudnessTarget {
    /// Integrated loudness, LUFS.
    pub lufs: f64,
    /// Highest true peak, dBTP.
    pub peak_dbtp: f64,
}

impl Default for LoudnessTarget {
    /// What YouTube turns louder programmes down to, and the peak that EBU R 128 allows.
    fn default() -> Self {
        Self { lufs: -14.0, peak_dbtp: -1.0 }
    }
}

/// One file to prepare: the only line that `stream-worker --prepare` reads.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// Which file, and where its bytes are.
    pub item: ItemSpec,
    /// What it shall fit.
    pub profile: Profile,
    /// Where results are kept.
    pub cache_dir: PathBuf,
    /// The FFmpeg program.
    pub ffmpeg: PathBuf,
    /// The ffprobe program.
    pub ffprobe: PathBuf,
    /// How to reach the bucket; absent where media are files.
    #[serde(default)]
    pub storage: Option<StorageSettings>,
    /// Certificates to trust besides the system's, in PEM.
    #[serde(default)]
    pub tls_ca_file: Option<PathBuf>,
    /// How loud it shall be.
    #[serde(default)]
    pub loudness: LoudnessTarget,
    /// Whether a file that fits as it is shall be prepared for its loudness alone.
    #[serde(default)]
    pub even_if_it_fits: bool,
    /// Length of the parts after which an interrupted job goes on, s; rounded to whole GOPs.
    #[serde(default = "a_minute")]
    pub part_s: u32,
}

fn a_minute() -> u32 {
    60
}

/// What a job says: one JSON line each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Said {
    /// It goes on.
    Progress {
        /// With what.
        stage: Stage,
        /// Media done in this stage, ms.
        done_ms: u64,
        /// Media to do in this stage, ms.
        total_ms: u64,
    },
    /// Nothing is to be done.
    Fits {
        /// Why, in words.
        reason: String,
    },
    /// The result is there.
    Ready {
        /// Its name.
        name: String,
        /// Why it was needed, in words.
        reason: String,
    },
}

/// What a job does, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Looking at the original.
    Look,
    /// Encoding the picture.
    Picture,
    /// Measuring the loudness.
    Listen,
    /// Encoding the sound.
    Sound,
    /// Putting both into one file.
    Join,
    /// Measuring the result.
    Certify,
    /// Keeping the result in the bucket.
    Keep,
}

impl Stage {
    /// How much of the whole work is done, 0 to 1, when `done` of `total` of this stage is. An estimate by what
    /// the stages cost on a file whose picture is encoded.
    pub fn share(self, done: u64, total: u64) -> f64 {
        let (from, to) = match self {
            Self::Look => (0.0, 0.02),
            Self::Picture => (0.02, 0.90),
            Self::Listen => (0.90, 0.92),
            Self::Sound => (0.92, 0.97),
            Self::Join => (0.97, 0.98),
            Self::Certify => (0.98, 0.99),
            Self::Keep => (0.99, 1.0),
        };
        from + (to - from) * (done as f64 / total.max(1) as f64).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Ulid;
    use crate::wire::MediaAt;

    fn item(key: &str, content: &str) -> ItemSpec {
        let at = MediaAt::Path("/m/x".into());
        ItemSpec { id: Ulid::from_text(key), key: key.into(), at, content: content.into() }
    }

    fn certificate(item: &ItemSpec) -> Certificate {
        Certificate {
            settings: SETTINGS,
            key: item.key.clone(),
            content: item.content.clone(),
            profile: Profile::default(),
            made_at: crate::now(),
            video: Making::Transcode,
            audio: Making::Silent,
            reason: "video is hevc, not H.264".into(),
            parameters: String::new(),
            frames: 90,
            idr: IdrList::default(),
            av_end_skew_ms: 0.0,
            loudness: None,
            target: LoudnessTarget::default(),
            duration_ms: 3000,
            size: 5,
        }
    }

    #[test]
    fn a_name_changes_with_everything_it_depends_on() {
        let profile = Profile::default();
        let other = Profile { width: 640, ..profile.clone() };
        let names = [
            name("a", "1", &profile),
            name("b", "1", &profile),
            name("a", "2", &profile),
            name("a", "1", &other),
            name("a\0", "1", &profile),
        ];
        for (n, one) in names.iter().enumerate() {
            assert!(one.len() == 32 + 1 + 16 + 2 && !names[..n].contains(one), "{names:?}");
        }
        assert_eq!(name("a", "1", &profile), names[0]);
    }

    #[test]
    fn only_a_whole_result_with_its_own_certificate_is_found() {
        let cache = tempfile::tempdir().unwrap();
        let (item, profile) = (item("a.mkv", "7-1.0"), Profile::default());
        let (media, paper) = files(cache.path(), &name(&item.key, &item.content, &profile));
        std::fs::create_dir_all(folder(cache.path())).unwrap();
        let found = || find(cache.path(), &item, &profile).is_some();
        std::fs::write(&media, b"media").unwrap();
        assert!(!found(), "a result without a certificate");
        let write = |c: &Certificate| std::fs::write(&paper, serde_json::to_vec(c).unwrap()).unwrap();
        write(&certificate(&item));
        assert!(found());
        std::fs::write(&media, b"med").unwrap();
        assert!(!found(), "a result that was cut off");
        std::fs::write(&media, b"media").unwrap();
        write(&Certificate { content: "8-1.0".into(), ..certificate(&item) });
        assert!(!found(), "the certificate of another content");
        std::fs::write(&paper, b"{").unwrap();
        assert!(!found(), "a certificate that cannot be read");
        let unknown = ItemSpec { content: String::new(), ..item.clone() };
        assert!(find(cache.path(), &unknown, &profile).is_none());
    }

    #[test]
    fn progress_never_goes_back_from_one_stage_to_the_next() {
        use Stage::{Certify, Join, Keep, Listen, Look, Picture, Sound};
        let stages = [Look, Picture, Listen, Sound, Join, Certify, Keep];
        for pair in stages.windows(2) {
            assert!(pair[0] < pair[1] && pair[0].share(9, 9) <= pair[1].share(0, 9) + 1e-9);
        }
        assert_eq!(Stage::Keep.share(7, 7), 1.0);
        assert!(Stage::Look.share(1, 0) <= 0.02);
    }
}
