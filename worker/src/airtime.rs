//! How long the channel and each destination were on the air in this run. Time is on the air when media acknowledged
//! soon after prove it, and dark once nothing can prove it any more. Pure: the time is passed in, in milliseconds of
//! a steady clock that goes on while the machine sleeps.

use state::Timestamp;
use state::ids::DestinationId;
use state::wire::{Airtime, DestinationSeen, DestinationState, Heartbeat, Playing};
use std::collections::BTreeMap;

/// Newly acknowledged bytes prove this much of the time before them, ms: as long as a destination stays live without.
const BYTES_PROVE_MS: u64 = 5_000;
/// A newly published segment proves this much, ms: three target durations and a little.
const SEGMENT_PROVES_MS: u64 = 15_000;
/// Destinations that are remembered, those that were taken away included.
const MOST_REMEMBERED: usize = 256;

/// What a sample says of the time before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// Media was accepted.
    Proof,
    /// Nothing new; it may still come.
    Silence,
    /// There is no connection that could prove anything.
    Dead,
}

/// Adds up the time of one destination, or of the channel.
#[derive(Debug, Clone, Copy, Default)]
struct Meter {
    at_ms: u64,
    sum: Airtime,
    /// Of the open time.
    open_fallback_ms: u64,
    /// The newest decided time was on the air.
    lit: bool,
}

impl Meter {
    fn new(at_ms: u64) -> Self {
        Self { at_ms, ..Self::default() }
    }

    fn sample(&mut self, now_ms: u64, sign: Sign, proves_ms: u64, fallback: bool) {
        let passed = now_ms.saturating_sub(self.at_ms);
        self.at_ms = self.at_ms.max(now_ms);
        self.sum.open_ms += passed;
        self.open_fallback_ms += if fallback { passed } else { 0 };
        let hopeless = sign == Sign::Dead || (sign == Sign::Silence && !self.lit);
        if hopeless || self.sum.open_ms > proves_ms {
            self.sum.dark_ms += self.sum.open_ms;
            self.decided(sign == Sign::Proof);
        } else if sign == Sign::Proof {
            self.sum.on_ms += self.sum.open_ms;
            self.sum.fallback_ms += self.open_fallback_ms;
            self.decided(true);
        }
    }

    fn decided(&mut self, lit: bool) {
        (self.sum.open_ms, self.open_fallback_ms, self.lit) = (0, 0, lit);
    }

    /// Nobody wants it at this moment.
    fn skip(&mut self, now_ms: u64) {
        self.decided(false);
        self.at_ms = now_ms;
    }
}

#[derive(Debug, Clone, Copy)]
struct OfDestination {
    meter: Meter,
    accepted_bytes: u64,
}

/// The times of a run.
#[derive(Debug)]
pub struct Airtimes {
    channel: Meter,
    destinations: BTreeMap<DestinationId, OfDestination>,
    last_segment_at: Option<Timestamp>,
    /// The fallback has been on the air since the last sample.
    fallback: bool,
}

impl Airtimes {
    /// Nothing counted yet.
    pub fn new(now_ms: u64) -> Self {
        let (destinations, last_segment_at) = (BTreeMap::new(), None);
        Self { channel: Meter::new(now_ms), destinations, last_segment_at, fallback: false }
    }

    /// Counts the time since the last call by what `beat` says, and writes the sums into it.
    pub fn count(&mut self, now_ms: u64, beat: &mut Heartbeat) {
        let nothing = beat.playing == Playing::Nothing;
        let mut best = Sign::Dead;
        for seen in &mut beat.destinations {
            let sign = self.destination(now_ms, seen);
            best = match (best, sign) {
                (Sign::Proof, _) | (_, Sign::Proof) => Sign::Proof,
                (Sign::Silence, _) | (_, Sign::Silence) => Sign::Silence,
                _ => Sign::Dead,
            };
        }
        let segment = beat.hls.as_ref().and_then(|hls| hls.last_segment_at);
        let news = segment.is_some() && segment != self.last_segment_at;
        self.last_segment_at = segment;
        let (sign, proves_ms) = match (beat.destinations.is_empty(), news) {
            (false, _) => (best, BYTES_PROVE_MS),
            (true, true) => (Sign::Proof, SEGMENT_PROVES_MS),
            (true, false) => (Sign::Silence, SEGMENT_PROVES_MS),
        };
        let sign = if nothing { Sign::Dead } else { sign };
        self.channel.sample(now_ms, sign, proves_ms, self.fallback);
        beat.airtime = self.channel.sum;
        self.skip_absent(now_ms, &beat.destinations);
        self.fallback = beat.playing == Playing::Fallback;
    }

    fn destination(&mut self, now_ms: u64, seen: &mut DestinationSeen) -> Sign {
        let begun = || OfDestination { meter: Meter::new(self.channel.at_ms), accepted_bytes: 0 };
        let of = self.destinations.entry(seen.id.clone()).or_insert_with(begun);
        let connected = matches!(seen.state, DestinationState::Sending | DestinationState::Live);
        let grew = seen.accepted_bytes > 0 && seen.accepted_bytes != of.accepted_bytes;
        of.accepted_bytes = seen.accepted_bytes;
        let sign = match (grew, connected) {
            (true, _) => Sign::Proof,
            (false, true) => Sign::Silence,
            (false, false) => Sign::Dead,
        };
        of.meter.sample(now_ms, sign, BYTES_PROVE_MS, self.fallback);
        let Airtime { on_ms, dark_ms, fallback_ms, .. } = of.meter.sum;
        (seen.on_air_ms, seen.dark_ms, seen.fallback_ms) = (on_ms, dark_ms, fallback_ms);
        sign
    }

    /// What was taken away is neither on the air nor dark.
    fn skip_absent(&mut self, now_ms: u64, present: &[DestinationSeen]) {
        let many = self.destinations.len() > MOST_REMEMBERED;
        self.destinations.retain(|id, of| {
            let is_there = present.iter().any(|seen| seen.id == *id);
            if !is_there {
                of.meter.skip(now_ms);
            }
            is_there || !many
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use state::ids::Ulid;

    fn beat(playing: Playing, destinations: &[(DestinationState, u64)]) -> Heartbeat {
        let at = jiff::Timestamp::UNIX_EPOCH;
        let seen = |(i, (state, bytes)): (usize, &(DestinationState, u64))| DestinationSeen {
            accepted_bytes: *bytes,
            ..DestinationSeen::new(format!("d{i}").parse().unwrap(), *state, at)
        };
        let destinations = destinations.iter().enumerate().map(seen).collect();
        Heartbeat { playing, destinations, ..Heartbeat::new(Ulid::from_text("r"), 1, 1, at) }
    }

    /// On, dark and open seconds of the only destination's channel after these samples: second, state, bytes.
    fn seconds(samples: &[(u64, DestinationState, u64)]) -> (u64, u64, u64) {
        let mut airtimes = Airtimes::new(0);
        let mut sum = Airtime::default();
        for (second, state, bytes) in samples {
            let mut beat = beat(Playing::Programme, &[(*state, *bytes)]);
            airtimes.count(second * 1000, &mut beat);
            sum = beat.airtime;
            assert_eq!(
                (beat.destinations[0].on_air_ms, beat.destinations[0].dark_ms),
                (sum.on_ms, sum.dark_ms)
            );
        }
        (sum.on_ms / 1000, sum.dark_ms / 1000, sum.open_ms / 1000)
    }

    #[test]
    fn only_what_was_acknowledged_was_on_the_air() {
        use DestinationState::{Connecting, Live, Sending, Waiting};
        assert_eq!(seconds(&[(1, Connecting, 0), (2, Live, 10), (3, Live, 20)]), (2, 1, 0));
        assert_eq!(seconds(&[(1, Live, 10), (2, Live, 10), (5, Live, 20)]), (5, 0, 0), "a short silence");
        assert_eq!(seconds(&[(1, Live, 10), (5, Sending, 10)]), (1, 0, 4), "it may still come");
        assert_eq!(seconds(&[(1, Live, 10), (5, Sending, 10), (7, Sending, 10)]), (1, 6, 0));
        assert_eq!(seconds(&[(1, Live, 10), (5, Sending, 10), (7, Sending, 10), (8, Live, 20)]), (2, 6, 0));
        assert_eq!(
            seconds(&[(1, Live, 10), (2, Waiting, 10)]),
            (1, 1, 0),
            "a lost connection proves nothing"
        );
        assert_eq!(seconds(&[(1, Live, 10), (3601, Live, 20)]), (1, 3600, 0), "the machine slept");
    }

    #[test]
    fn a_channel_without_destinations_lives_by_its_segments() {
        let mut airtimes = Airtimes::new(0);
        let mut at = |second: u64, segment: i64, playing| {
            let mut beat = beat(playing, &[]);
            let last_segment_at = jiff::Timestamp::from_second(segment).ok();
            beat.hls = Some(state::wire::HlsSeen { last_segment_at, ..Default::default() });
            airtimes.count(second * 1000, &mut beat);
            (beat.airtime.on_ms / 1000, beat.airtime.dark_ms / 1000, beat.airtime.fallback_ms / 1000)
        };
        assert_eq!(at(4, 4, Playing::Programme), (4, 0, 0));
        assert_eq!(at(8, 8, Playing::Fallback), (8, 0, 0));
        assert_eq!(at(12, 12, Playing::Fallback), (12, 0, 4));
        assert_eq!(at(20, 12, Playing::Fallback), (12, 0, 4));
        assert_eq!(at(28, 12, Playing::Fallback), (12, 16, 4), "the disk is full");
    }

    #[test]
    fn a_destination_that_was_taken_away_is_not_dark() {
        let mut airtimes = Airtimes::new(0);
        let live = (DestinationState::Live, 10);
        airtimes.count(1000, &mut beat(Playing::Programme, &[live, live]));
        airtimes.count(60_000, &mut beat(Playing::Programme, &[(DestinationState::Live, 20)]));
        let mut again =
            beat(Playing::Programme, &[(DestinationState::Live, 30), (DestinationState::Live, 5)]);
        airtimes.count(61_000, &mut again);
        let second = &again.destinations[1];
        assert_eq!((second.on_air_ms, second.dark_ms), (2000, 0));
    }

    proptest! {
        #[test]
        fn every_millisecond_is_counted_once_and_sums_only_grow(
            samples in proptest::collection::vec((0u64..20_000, 0usize..6, any::<bool>(), 0usize..3), 1..60)
        ) {
            use DestinationState::{Closed, Connecting, Idle, Live, Sending, Waiting};
            let (mut airtimes, mut now, mut bytes) = (Airtimes::new(7), 7, 0);
            let mut before = Airtime::default();
            for (passed, state, grew, playing) in samples {
                now += passed;
                bytes += u64::from(grew);
                let state = [Idle, Connecting, Sending, Live, Waiting, Closed][state];
                let playing = [Playing::Nothing, Playing::Programme, Playing::Fallback][playing];
                let mut beat = beat(playing, &[(state, bytes)]);
                airtimes.count(now, &mut beat);
                let sum = beat.airtime;
                prop_assert_eq!(sum.on_ms + sum.dark_ms + sum.open_ms, now - 7);
                prop_assert!(sum.on_ms >= before.on_ms && sum.dark_ms >= before.dark_ms);
                prop_assert!(sum.fallback_ms >= before.fallback_ms && sum.fallback_ms <= sum.on_ms);
                prop_assert!(sum.open_ms <= BYTES_PROVE_MS);
                before = sum;
            }
        }
    }
}
