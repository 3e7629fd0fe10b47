//! What an ordinary MP4 file is, from its own tables: exactly what ffprobe (FFmpeg 5.1) would say, at a hundredth of
//! its cost. What does not lead to one certain answer is refused, and ffprobe is asked.

use super::boxes::{Kind, Refused, children, long, need, only, word};
use super::describe::{self, Picture};
use super::first;
use super::place::Place;
use super::reader::{Ask, tracks};
use super::samples::Tables;
use super::top::{box_at, movie, unreadable};
use super::track::{Handler, Track, edits, handler, media_header};
use crate::source::probe::{self, AudioInfo, MediaInfo, VideoInfo};
use bytes::Bytes;
use state::profile::Rate;
use std::fs::File;
use std::path::Path;

/// Boxes at the top of a file that are looked at.
const MOST_AT_TOP: usize = 64;
/// Longest text about a file in which is looked for what changes it.
const LONGEST_TEXT: usize = 64 * 1024;
/// What FFmpeg takes for a time that goes back: a length near the greatest number.
const LONGEST_SAMPLE: u32 = 1 << 30;
/// That the media are in the same file, as it is always said (8.7.2).
const OWN_FILE: &[u8; 20] = b"\0\0\0\0\0\0\0\x01\0\0\0\x0Curl \0\0\0\x01";
/// Neither turned nor stretched (ISO/IEC 14496-12, 6.2.2).
const UPRIGHT: [u32; 9] = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];

/// What a file is. Blocks.
///
/// # Errors
/// Why ffprobe has to be asked.
pub fn look(path: &Path) -> Result<MediaInfo, Refused> {
    let file = File::open(path).map_err(unreadable)?;
    let meta = file.metadata().map_err(unreadable)?;
    if !meta.is_file() {
        return Err(Refused("it is no file"));
    }
    look_at(&mut Place::File(file, meta.len()))
}

/// The same for a file or an object of which some is in hand.
///
/// # Errors
/// The same, or that something is not in hand yet.
pub(super) fn look_at(place: &mut Place) -> Result<MediaInfo, Refused> {
    let size = place.size();
    plain_at_top(place)?;
    let moov = movie(place)?;
    let movie = Movie::read(&moov)?;
    let ask = Ask { video: movie.video.0, audio: movie.audio.as_ref().map(|(index, _)| *index), from_ms: 0 };
    let (video, audio) = tracks(&moov, ask, place.size())?;
    let picture = describe::picture(&movie.video.1, &video.setup)?;
    first::check(place, &video, audio.as_ref(), &picture)?;
    let sound = match (&movie.audio, &audio) {
        (Some((index, trak)), Some(track)) => Some((*index, trak, track)),
        _ => None,
    };
    let bytes = |track: &Track| track.tables.bytes().filter(|bytes| *bytes <= size);
    let bytes = |track: &Track| bytes(track).ok_or(Refused("it says more than it holds"));
    let times = Times::read(&movie.video.1, &video, movie.timescale)?;
    let sound = sound
        .map(|(index, trak, track)| {
            let times = Times::read(trak, track, movie.timescale)?;
            Ok((audio_info(index, trak, track, times.kbps(bytes(track)?)?)?, times))
        })
        .transpose()?;
    let began = [Some(&times), sound.as_ref().map(|(_, times)| times)];
    let began = began.into_iter().flatten().map(Times::begins_us).min().unwrap_or(0);
    Ok(MediaInfo {
        duration_ms: Some(movie.duration_ms),
        indexed: true,
        video: Some(VideoInfo {
            index: movie.video.0,
            kbps: Some(times.kbps(bytes(&video)?)?),
            ..video_info(picture, &video.tables, &times, began)?
        }),
        audio: sound.map(|(audio, _)| audio),
    })
}

/// Nothing at the top but what says nothing of its media, and the file ends where its last box does.
fn plain_at_top(place: &mut Place) -> Result<(), Refused> {
    let (mut at, mut movies) = (0, 0);
    for number in 0..MOST_AT_TOP {
        let Some(top) = box_at(place, at)? else {
            return if at == place.size() && movies == 1 {
                Ok(())
            } else {
                Err(Refused("its end is unusual"))
            };
        };
        match (&top.kind, number) {
            (b"ftyp", 0) => {
                let brand = place.whole(top.body, 4).map_err(unreadable)?;
                if brand[..] == *b"qt  " {
                    return Err(Refused("it is a QuickTime file"));
                }
            }
            (b"moov", _) => movies += 1,
            (b"mdat" | b"free" | b"skip" | b"wide", _) => {}
            _ => return Err(Refused("there is an unusual box at its top")),
        }
        at = top.end;
    }
    Err(Refused("it has too many boxes"))
}

/// A movie box with one picture track, at most one sound track, and nothing else that is played.
struct Movie {
    timescale: u32,
    duration_ms: u64,
    /// Place among the tracks, and the track box.
    video: (u32, Bytes),
    audio: Option<(u32, Bytes)>,
}

impl Movie {
    fn read(moov: &Bytes) -> Result<Self, Refused> {
        let (mut header, mut video, mut audio, mut index) = (None, None, None, 0);
        for child in children(moov) {
            let (kind, body) = child?;
            match &kind {
                b"mvhd" if index == 0 => header = Some(movie_header(&body)?),
                b"trak" => {
                    plain_track(&body)?;
                    match handler(&body)? {
                        Handler::Picture => video = Some((index, body)),
                        Handler::Sound => audio = Some((index, body)),
                        Handler::Other => return Err(Refused("it has more tracks")),
                    }
                    index += 1;
                }
                b"udta" | b"meta" => plain_text(&body)?,
                b"iods" | b"free" | b"skip" => {}
                _ => return Err(Refused("there is an unusual box")),
            }
        }
        let (timescale, duration_ms) = header.ok_or(Refused("a box is missing"))?;
        Ok(Self { timescale, duration_ms, video: video.ok_or(Refused("it has no picture"))?, audio })
    }
}

/// Ticks in a second, and the length in ms.
fn movie_header(mvhd: &Bytes) -> Result<(u32, u64), Refused> {
    let cut = Refused("a header is cut");
    let (timescale, length, matrix) = match mvhd.first() {
        Some(0) => (word(mvhd, 12), word(mvhd, 16).map(u64::from), 36),
        Some(1) => (word(mvhd, 20), long(mvhd, 24), 48),
        _ => return Err(cut),
    };
    upright(mvhd, matrix)?;
    let timescale = timescale.filter(|scale| (1..=100_000_000).contains(scale)).ok_or(cut)?;
    let length = length.filter(|length| (1..u64::from(u32::MAX)).contains(length));
    let length = length.ok_or(Refused("it does not say how long it is"))?;
    let text = probe::time_text(rescaled(length, 1_000_000, timescale), 1_000_000);
    Ok((timescale, probe::millis(&text).ok_or(cut)?))
}

fn upright(header: &[u8], at: usize) -> Result<(), Refused> {
    let same =
        UPRIGHT.iter().enumerate().all(|(number, value)| word(header, at + number * 4) == Some(*value));
    if same { Ok(()) } else { Err(Refused("the picture is turned or stretched")) }
}

/// Cover art would be one more track, and players' notes say where the sound begins.
fn plain_text(body: &Bytes) -> Result<(), Refused> {
    let holds = |text: &[u8]| body.windows(text.len()).any(|part| part == text);
    let unusual = body.len() > LONGEST_TEXT || holds(b"covr") || holds(b"iTunSMPB");
    if unusual { Err(Refused("there is more than text about it")) } else { Ok(()) }
}

/// Nothing in a track that could say more than what is read here.
fn plain_track(trak: &Bytes) -> Result<(), Refused> {
    within(trak, &[b"tkhd", b"edts", b"mdia", b"udta", b"free"])?;
    if let Some(text) = only(trak, b"udta")? {
        plain_text(&text)?;
    }
    let mdia = need(trak, b"mdia")?;
    within(&mdia, &[b"mdhd", b"hdlr", b"minf", b"elng", b"free"])?;
    // FFmpeg reads them as they come.
    let kinds: Vec<Kind> = children(&mdia).filter_map(|child| child.ok().map(|(kind, _)| kind)).collect();
    if !kinds.starts_with(&[*b"mdhd", *b"hdlr"]) {
        return Err(Refused("boxes are out of order"));
    }
    let minf = need(&mdia, b"minf")?;
    within(&minf, &[b"vmhd", b"smhd", b"nmhd", b"dinf", b"stbl", b"free"])?;
    if need(&need(&minf, b"dinf")?, b"dref")?[..] != *OWN_FILE {
        return Err(Refused("the media are in another file"));
    }
    let tables = [
        b"stsd", b"stts", b"stss", b"ctts", b"stsc", b"stsz", b"stco", b"co64", b"sdtp", b"sgpd", b"sbgp",
        b"cslg",
    ];
    within(&need(&minf, b"stbl")?, &tables)
}

/// No other boxes than these.
pub(super) fn within(body: &Bytes, kinds: &[&Kind]) -> Result<(), Refused> {
    for child in children(body) {
        let (kind, _) = child?;
        if !kinds.contains(&&kind) {
            return Err(Refused("there is an unusual box"));
        }
    }
    Ok(())
}

/// When a track begins and how long it is, in its ticks.
struct Times {
    timescale: u32,
    begins: u64,
    /// Without its edit list.
    length: u64,
    /// With it.
    shown: u64,
}

impl Times {
    fn read(trak: &Bytes, track: &Track, movie_timescale: u32) -> Result<Self, Refused> {
        let (timescale, said) = media_header(&need(&need(trak, b"mdia")?, b"mdhd")?)?;
        let length = u64::try_from(said).unwrap_or(0).min(length(&track.tables)?);
        let (begins, shown) = match only(trak, b"edts")? {
            None => (u64::try_from(track.tables.first_composition()).ok(), length),
            Some(_) => {
                let (late, all) = edited(trak, timescale, movie_timescale)?;
                (Some(late), all.min(length))
            }
        };
        let begins = begins.ok_or(Refused("a track begins before its time"))?;
        if shown == 0 {
            Err(Refused("a track is empty"))
        } else {
            Ok(Self { timescale, begins, length, shown })
        }
    }

    /// As FFmpeg compares it.
    fn begins_us(&self) -> u64 {
        rescaled(self.begins, 1_000_000, self.timescale)
    }

    /// Bits in a second, as a number of thousands.
    fn kbps(&self, bytes: u64) -> Result<u32, Refused> {
        let bits = bytes.checked_mul(8).and_then(|bits| bits.checked_mul(u64::from(self.timescale)));
        let bits = bits.map(|bits| bits / self.length).filter(|bits| (1..1 << 40).contains(bits));
        probe::kbps(&bits.ok_or(Refused("its bitrate is unusual"))?.to_string())
            .ok_or(Refused("its bitrate is unusual"))
    }
}

/// How long all samples last together, ticks.
fn length(tables: &Tables) -> Result<u64, Refused> {
    let usual = |[count, ticks]: [u32; 2]| count > 0 && (1..LONGEST_SAMPLE).contains(&ticks);
    if !tables.durations().iter().all(usual) || !tables.reorders_little() {
        return Err(Refused("the times of its samples are unusual"));
    }
    let each = tables.durations().iter().map(|[count, ticks]| u64::from(count) * u64::from(ticks));
    Ok(each.fold(0, u64::saturating_add))
}

/// How late a track with an edit list begins, and how long its edits are with that, ticks.
fn edited(trak: &Bytes, timescale: u32, movie_timescale: u32) -> Result<(u64, u64), Refused> {
    let edits = edits(trak)?;
    let usual = |&(length, _): &(u64, i64)| (1..1 << 32).contains(&length);
    if edits.is_empty() || !edits.iter().all(usual) {
        return Err(Refused("the edit list is unusual"));
    }
    let scaled = |&(length, _): &(u64, i64)| rescaled(length, timescale, movie_timescale);
    Ok((edits.iter().filter(|(_, from)| *from == -1).map(scaled).sum(), edits.iter().map(scaled).sum()))
}

/// A number in other units, rounded to the nearest as FFmpeg does it.
fn rescaled(value: u64, to: u32, from: u32) -> u64 {
    let (to, from) = (u128::from(to), u128::from(from));
    u64::try_from((u128::from(value) * to + from / 2) / from).unwrap_or(u64::MAX)
}

fn video_info(
    picture: Picture,
    tables: &Tables,
    times: &Times,
    file_began_us: u64,
) -> Result<VideoInfo, Refused> {
    let began = probe::seconds(&probe::time_text(file_began_us, 1_000_000)).unwrap_or(0.0);
    let [matrix, primaries, transfer] =
        [picture.matrix, picture.primaries, picture.transfer].map(str::to_owned);
    Ok(VideoInfo {
        codec: "h264".to_owned(),
        profile: picture.profile.to_owned(),
        pixels: "yuv420p".to_owned(),
        matrix,
        primaries,
        transfer,
        width: picture.width,
        height: picture.height,
        fps: Some(average(tables, times.timescale)?),
        base_fps: Some(base(tables, times.timescale)?),
        interlaced: false,
        square: true,
        rotation: 0,
        duration_ms: probe::millis(&probe::time_text(times.shown, times.timescale)),
        begins_ms: probe::begins_ms(&probe::time_text(times.begins, times.timescale), began),
        ..VideoInfo::default()
    })
}

/// All pictures by all the time that they take.
fn average(tables: &Tables, timescale: u32) -> Result<Rate, Refused> {
    let pictures: u64 = tables.durations().iter().map(|[count, _]| u64::from(count)).sum();
    rate(pictures * u64::from(timescale), length(tables)?)
}

/// FFmpeg believes a table of one length, of which only the last picture may differ; otherwise it guesses.
fn base(tables: &Tables, timescale: u32) -> Result<Rate, Refused> {
    let durations = tables.durations();
    match (durations.len(), durations.get(0), durations.get(1)) {
        (1, Some([_, each]), _) | (2, Some([_, each]), Some([1, _])) => {
            rate(u64::from(timescale), u64::from(each))
        }
        _ => Err(Refused("its pictures do not all last as long")),
    }
}

fn rate(num: u64, den: u64) -> Result<Rate, Refused> {
    let (mut shared, mut rest) = (num, den);
    while rest > 0 {
        (shared, rest) = (rest, shared % rest);
    }
    let part = |n: u64| i32::try_from(n / shared.max(1)).ok().filter(|n| *n > 0).map(i32::unsigned_abs);
    match (part(num), part(den)) {
        (Some(num), Some(den)) => Ok(Rate { num, den }),
        _ => Err(Refused("its frame rate is unusual")),
    }
}

fn audio_info(index: u32, trak: &Bytes, track: &Track, kbps: u32) -> Result<AudioInfo, Refused> {
    describe::plain_sound(trak)?;
    let durations = track.tables.durations();
    if track.tables.reorders()
        || (durations.len() == 1 && durations.get(0).is_some_and(|[_, each]| each == 1))
    {
        return Err(Refused("the times of its sound are unusual"));
    }
    let (sample_rate, channels) = describe::sound(&track.setup)?;
    Ok(AudioInfo {
        index,
        codec: "aac".to_owned(),
        profile: "LC".to_owned(),
        sample_rate,
        channels,
        kbps: Some(kbps),
    })
}

/// Whether a track's header says that it is as large as this, and upright.
///
/// # Errors
/// When it does not.
pub(super) fn shown_as(trak: &Bytes, width: u32, height: u32) -> Result<(), Refused> {
    let tkhd = need(trak, b"tkhd")?;
    let at = match tkhd.first() {
        Some(0) => 40,
        Some(1) => 52,
        _ => return Err(Refused("a header is cut")),
    };
    upright(&tkhd, at)?;
    let size = [word(&tkhd, at + 36), word(&tkhd, at + 40)].map(|n| n.map(|n| n >> 16));
    if size == [Some(width), Some(height)] {
        Ok(())
    } else {
        Err(Refused("the picture is shown in another size"))
    }
}
