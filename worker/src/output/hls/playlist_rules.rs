//! RFC 8216's rules for a live playlist, held against arbitrary histories.

use super::*;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Segment { duration_ms: u64, discontinuity: bool, independent: bool, wall_step_ms: i64 },
    Publish,
    Restart { lost: Option<usize>, wall_step_ms: i64 },
}

fn step() -> impl Strategy<Value = Step> {
    let segment = (1..4_500_u64, prop::bool::weighted(0.2), prop::bool::weighted(0.9), -5_000..10_000_i64);
    let segment = segment.prop_map(|(duration_ms, discontinuity, independent, wall_step_ms)| Step::Segment {
        duration_ms,
        discontinuity,
        independent,
        wall_step_ms,
    });
    let restart = (prop::option::weighted(0.3, 0..10_usize), -50_000..50_000_i64);
    let restart = restart.prop_map(|(lost, wall_step_ms)| Step::Restart { lost, wall_step_ms });
    prop_oneof![12 => segment, 8 => Just(Step::Publish), 1 => restart]
}

/// What a player reads from a playlist.
#[derive(Debug, Default)]
struct Read {
    target_s: u64,
    sequence: u64,
    discontinuity_sequence: u64,
    independent: bool,
    segments: Vec<ReadSegment>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct ReadSegment {
    name: String,
    discontinuity: bool,
    at_ms: i64,
    duration_ms: u64,
}

fn read(text: &str) -> Read {
    let mut read = Read::default();
    let mut coming = ReadSegment::default();
    assert_eq!(text.lines().next(), Some("#EXTM3U"));
    for line in text.lines().skip(1) {
        let (tag, value) = line.split_once(':').unwrap_or((line, ""));
        match tag {
            "#EXT-X-VERSION" => assert_eq!(value, "6"),
            "#EXT-X-TARGETDURATION" => read.target_s = value.parse().unwrap(),
            "#EXT-X-MEDIA-SEQUENCE" => read.sequence = value.parse().unwrap(),
            "#EXT-X-DISCONTINUITY-SEQUENCE" => read.discontinuity_sequence = value.parse().unwrap(),
            "#EXT-X-INDEPENDENT-SEGMENTS" => read.independent = true,
            "#EXT-X-DISCONTINUITY" => coming.discontinuity = true,
            "#EXT-X-PROGRAM-DATE-TIME" => {
                assert!(value.ends_with('Z') && value.len() == "2026-11-20T07:36:29.543Z".len(), "{value}");
                coming.at_ms = value.parse::<Timestamp>().unwrap().as_millisecond();
            }
            "#EXTINF" => {
                let (seconds, ms) = value.strip_suffix(',').unwrap().split_once('.').unwrap();
                coming.duration_ms = seconds.parse::<u64>().unwrap() * 1000 + ms.parse::<u64>().unwrap();
            }
            name => {
                assert!(!name.starts_with('#'), "{name}");
                coming.name = name.to_owned();
                read.segments.push(std::mem::take(&mut coming));
            }
        }
    }
    read
}

/// A playlist with a writer around it, without files.
struct Channel {
    playlist: Playlist,
    media_ms: i64,
    wall_ms: i64,
    made: u64,
    torn: bool,
    not_independent: Vec<String>,
}

const WALL: i64 = 1_800_000_000_000;

impl Channel {
    fn new() -> Self {
        let mut playlist = Playlist::new(4, 0);
        playlist.set_run(8, WALL);
        Self { playlist, media_ms: 0, wall_ms: WALL, made: 0, torn: false, not_independent: Vec::new() }
    }

    fn segment(&mut self, duration_ms: u64, discontinuity: bool, independent: bool) {
        let name = format!("1-{}.ts", self.made);
        if !independent {
            self.not_independent.push(name.clone());
        }
        let discontinuity = discontinuity || std::mem::take(&mut self.torn);
        let (start_ms, wall_ms) = (self.media_ms, self.wall_ms);
        self.playlist
            .append(name, Finished { start_ms, duration_ms, wall_ms, discontinuity, independent, bytes: 1 });
        self.made += 1;
        self.media_ms += duration_ms as i64;
        self.wall_ms += duration_ms as i64;
    }

    fn restart(&mut self, lost: Option<usize>) {
        let kept = serde_json::to_string(&self.playlist).unwrap();
        self.playlist = serde_json::from_str(&kept).unwrap();
        let lost = lost.and_then(|at| self.playlist.segments().nth(at).map(|segment| segment.name.clone()));
        self.playlist.resume(4, |name| Some(name) != lost.as_deref());
        self.playlist.set_run(8, self.wall_ms);
        (self.media_ms, self.torn) = (0, true);
    }
}

/// Rules (1) to (5) of two successive versions. `lost`: files vanished in between, so the window may be short.
fn check_pair(old: &Read, new: &Read) {
    assert!(new.sequence >= old.sequence);
    let removed = (new.sequence - old.sequence) as usize;
    let gone = old.segments.iter().take(removed).filter(|segment| segment.discontinuity).count();
    let counted = new.discontinuity_sequence - old.discontinuity_sequence;
    if removed <= old.segments.len() {
        let kept = &old.segments[removed..];
        assert!(new.segments.len() >= kept.len());
        assert_eq!(kept, &new.segments[..kept.len()], "a listed segment was changed");
        assert_eq!(counted, gone as u64);
    } else {
        assert!(counted >= gone as u64);
    }
}

fn check_one(read: &Read, not_independent: &[String]) {
    for segment in &read.segments {
        assert!((segment.duration_ms + 500) / 1000 <= read.target_s, "{segment:?}");
    }
    for pair in read.segments.windows(2) {
        let end = pair[0].at_ms + pair[0].duration_ms as i64;
        assert!(pair[1].at_ms >= end, "programme time went back: {pair:?}");
        assert!(pair[1].discontinuity || pair[1].at_ms == end, "programme time jumped: {pair:?}");
    }
    let all = read.segments.iter().all(|segment| !not_independent.contains(&segment.name));
    assert_eq!(read.independent, all);
}

proptest! {
    #[test]
    fn every_history_is_legal(steps in prop::collection::vec(step(), 1..300)) {
        let mut channel = Channel::new();
        let mut published = Read { target_s: 4, ..Read::default() };
        let mut short = true;
        for step in steps {
            match step {
                Step::Segment { duration_ms, discontinuity, independent, wall_step_ms } => {
                    channel.wall_ms += wall_step_ms;
                    channel.segment(duration_ms, discontinuity, independent);
                }
                Step::Restart { lost, wall_step_ms } => {
                    channel.wall_ms += wall_step_ms;
                    channel.restart(lost);
                    short |= lost.is_some();
                }
                Step::Publish => {
                    let removed = channel.playlist.trim();
                    let read = read(&channel.playlist.render());
                    check_pair(&published, &read);
                    check_one(&read, &channel.not_independent);
                    let duration: u64 = read.segments.iter().map(|segment| segment.duration_ms).sum();
                    short &= duration < 12_000 || read.segments.len() < 6;
                    prop_assert!(short || (duration >= 12_000 && read.segments.len() >= 6));
                    for segment in removed {
                        prop_assert!(channel.playlist.afterlife_ms(&segment) >= segment.duration_ms + duration);
                    }
                    published = read;
                }
            }
        }
    }
}

#[test]
fn the_sample_of_a_source_switch() {
    let mut playlist = Playlist::new(4, 0);
    playlist.set_run(6, WALL);
    let mut start_ms = 0;
    for number in 0..9 {
        let discontinuity = number == 2 || number == 5;
        let new = Finished {
            start_ms,
            duration_ms: 4_000,
            wall_ms: WALL,
            discontinuity,
            independent: true,
            bytes: 1,
        };
        playlist.append(format!("7-{number}.ts"), new);
        start_ms += 4_000;
    }
    playlist.trim();
    let text = playlist.render();
    let expected = "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:3\n\
        #EXT-X-DISCONTINUITY-SEQUENCE:1\n#EXT-X-INDEPENDENT-SEGMENTS\n\
        #EXT-X-PROGRAM-DATE-TIME:2027-01-15T08:00:12.000Z\n#EXTINF:4.000,\n7-3.ts\n\
        #EXT-X-PROGRAM-DATE-TIME:2027-01-15T08:00:16.000Z\n#EXTINF:4.000,\n7-4.ts\n\
        #EXT-X-DISCONTINUITY\n#EXT-X-PROGRAM-DATE-TIME:2027-01-15T08:00:20.000Z\n#EXTINF:4.000,\n7-5.ts\n";
    assert!(text.starts_with(expected), "{text}");
}

#[test]
fn a_late_wall_clock_moves_programme_time_only_at_a_discontinuity() {
    let mut channel = Channel::new();
    channel.segment(4_000, false, true);
    channel.wall_ms += 3_000;
    channel.segment(4_000, false, true);
    channel.segment(4_000, true, true);
    let at: Vec<_> = channel.playlist.segments().map(|segment| segment.at_ms - WALL).collect();
    assert_eq!(at, [0, 4_000, 11_000]);
}

#[test]
fn a_new_target_duration_starts_a_new_window_that_counts_on() {
    let mut channel = Channel::new();
    for _ in 0..8 {
        channel.segment(4_000, false, true);
    }
    assert_eq!(channel.playlist.resume(6, |_| true).len(), 8);
    assert_eq!(channel.playlist.next_sequence(), 8);
}

#[test]
fn versions_are_half_a_target_apart() {
    let now = Instant::now();
    assert_eq!(due(None, 4, now), now);
    assert_eq!(due(Some(now), 4, now), now + Duration::from_secs(2));
}
