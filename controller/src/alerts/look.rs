//! Gathering everything that is wrong: of the channels every second, of the machine and the house less often.

use super::book::Finding;
use super::channel::{self, Mended};
use super::kind::Kind;
use super::machine::{self, Before, Clock, Places};
use crate::engines::House;
use crate::engines::health;
use crate::supervisor::seen::Sight;
use state::phase::Wish;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// How often machine and house are looked at.
const SLOW: Duration = Duration::from_secs(5);

/// Looks, and remembers what it needs to see changes.
#[derive(Default)]
pub struct Looker {
    clock: Clock,
    mended: Mended,
    machine: Later<(Vec<Finding>, Before)>,
    house: Later<Vec<Finding>>,
}

/// What takes its time to find out: the last answer, and the question that is under way.
#[derive(Default)]
struct Later<T> {
    last: T,
    answered: Option<Instant>,
    asked: Option<JoinHandle<T>>,
}

impl<T> Later<T> {
    /// Takes in an answer that has come, and asks anew when that is due.
    async fn renew(&mut self, ask: impl FnOnce(&T) -> JoinHandle<T>) {
        if let Some(asked) = self.asked.take_if(|asked| asked.is_finished()) {
            if let Ok(answer) = asked.await {
                self.last = answer;
            }
            self.answered = Some(Instant::now());
        }
        if self.asked.is_none() && self.answered.is_none_or(|at| at.elapsed() >= SLOW) {
            self.asked = Some(ask(&self.last));
        }
    }
}

impl Looker {
    /// Everything that is wrong now.
    pub async fn look(&mut self, house: &Arc<House>) -> Vec<Finding> {
        let now = state::now();
        let sights = house.supervisor.sights();
        let mut found: Vec<_> = self.clock.look(now).into_iter().collect();
        for sight in &sights {
            self.mended.look(sight, now);
            found.extend(channel::findings(sight, &self.mended, now));
        }
        self.machine.renew(|(_, before)| look_at_machine(places(house, &sights), before.clone())).await;
        found.extend(self.machine.last.0.iter().cloned());
        // What happens is told once.
        self.machine.last.0.retain(|finding| !finding.subject.kind.manner().happens);
        self.house.renew(|_| tokio::spawn(of_house(house.clone()))).await;
        found.extend(self.house.last.iter().cloned());
        found
    }
}

fn look_at_machine(places: Places, mut before: Before) -> JoinHandle<(Vec<Finding>, Before)> {
    tokio::task::spawn_blocking(move || {
        let found = machine::look(&places, &mut before);
        (found, before)
    })
}

fn places(house: &House, sights: &[Arc<Sight>]) -> Places {
    let folders =
        vec![("STATE_DIR", house.config.state_dir.clone()), ("HLS_DIR", house.config.hls_dir.clone())];
    let workers = sights.iter().filter(|sight| sight.alive).filter_map(|sight| {
        let run = sight.state.run.as_ref()?;
        Some((format!("The worker of channel {}", sight.state.id), run.pid))
    });
    let own = ("The controller".to_owned(), std::process::id());
    Places { folders, processes: std::iter::once(own).chain(workers).collect() }
}

/// What stands in the way of channels that are wanted. Nobody is told of a house that has nothing to do.
async fn of_house(house: Arc<House>) -> Vec<Finding> {
    let house = &*house;
    let mut found = of_reload(house);
    found.extend(house.crowd.is_full().map(|most| {
        let words = format!("All {most} connections that the API may have are taken, so that viewers wait; raise LimitNOFILE and restart it with --full.");
        Finding::new(Kind::DescriptorsLow, words).about("connections")
    }));
    found.extend(house.broken.iter().map(|words| {
        Finding::new(Kind::StateBroken, format!("A file was broken: {words}; look what it held."))
            .about(words)
    }));
    let lost = house.keyring.lost();
    found.extend(lost.map(|words| Finding::new(Kind::MasterKeyLost, sentence(words))));
    if !house.wishes.all().iter().any(|wish| wish.wish == Wish::On) {
        return found;
    }
    let programs = health::programs(house).into_iter();
    found.extend(programs.map(|words| Finding::new(Kind::ProgramMissing, sentence(&words)).about(words)));
    let media = health::media_problem(house).await;
    found.extend(media.map(|words| Finding::new(Kind::MediaUnavailable, sentence(&words))));
    let cache = house.media.alert();
    found.extend(cache.map(|words| {
        let words = words.trim_end_matches('.');
        Finding::new(
            Kind::CacheStuck,
            format!("No copies of media can be kept: {words}; mend the disk of STATE_DIR/cache."),
        )
    }));
    let left_out = health::left_out(house).into_iter();
    found.extend(left_out.map(|(channel, destination, why)| {
        let words = format!("Destination {destination} is left out: {why}.");
        Finding::new(Kind::DestinationLeftOut, words).of(&channel).at(&destination)
    }));
    found
}

fn of_reload(house: &House) -> Vec<Finding> {
    let failed = house.reload_failed.lock().unwrap_or_else(PoisonError::into_inner).clone();
    failed.map(|words| Finding::new(Kind::ReloadFailed, sentence(&words))).into_iter().collect()
}

/// A sentence begins with a capital and ends with a stop.
fn sentence(words: &str) -> String {
    let mut letters = words.trim_end_matches('.').chars();
    let first = letters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}
