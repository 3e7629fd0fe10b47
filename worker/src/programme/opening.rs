//! Opening one item, off the loop: what was prepared, else the original; and what a failure means for the next try.

use super::search;
use crate::circuit::Failure;
use crate::source::object::Reach;
use crate::source::open::{Opened, Opener};
use crate::source::probe::MediaInfo;
use state::prepared::WAITS;
use state::profile::Profile;
use state::wire::{ItemSpec, MediaAt};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// An item that takes longer is given up. Every step has a deadline of its own; this one is for all of them.
const LONGEST_OPENING: Duration = Duration::from_secs(180);

/// Why an item could not be opened.
#[derive(Debug, PartialEq, Eq)]
pub struct NotOpened {
    /// In words.
    pub why: String,
    /// What that means for the next try.
    pub failure: Failure,
}

/// An item that is to be opened.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) opener: Opener,
    pub(super) profile: Profile,
    /// The file has a word in the profile.
    pub(super) provisional: bool,
    pub(super) item: ItemSpec,
    /// What its file is, where that is known.
    pub(super) info: Option<MediaInfo>,
    /// Why its picture must not be copied, where that is so.
    pub(super) conform: Option<String>,
    /// Where it begins, ms.
    pub(super) from_ms: u64,
    /// Another object of the list: whether the bucket is away is seen at two of them.
    pub(super) witness: Option<ItemSpec>,
}

impl Opening {
    /// Opens it, whatever comes in between.
    pub(super) async fn whatever_happens(self) -> Result<Opened, NotOpened> {
        brought_to_an_end(self.open()).await
    }

    async fn open(self) -> Result<Opened, NotOpened> {
        let Self { opener, profile, provisional, item, info, conform, from_ms, witness } = self;
        let misses = || opener.objects.as_ref().map_or(0, |objects| objects.misses());
        let before = misses();
        if let Some(opened) = opener.open_prepared(&item, &profile, from_ms).await {
            return Ok(opened);
        }
        let info = match info {
            Some(info) => Ok(info),
            None => opener.probe(&item).await,
        };
        let opened = match info {
            Ok(info) => {
                let profile = if provisional { search::settled(&profile, &info) } else { profile };
                opener.open(item.clone(), info, &profile, from_ms, conform).await
            }
            Err(why) => Err(why),
        };
        match opened {
            Ok(opened) => Ok(opened),
            Err(why) => Err(judged(&opener, &item, witness.as_ref(), misses() > before, why).await),
        }
    }
}

/// An opening that hangs or panics is one that failed: the next item is opened only after this one's word.
async fn brought_to_an_end(
    opening: impl Future<Output = Result<Opened, NotOpened>> + Send + 'static,
) -> Result<Opened, NotOpened> {
    let failed = |why: String| Err(NotOpened { why, failure: Failure::Item });
    let mut work = JoinSet::new();
    work.spawn(opening);
    match timeout(LONGEST_OPENING, work.join_next()).await {
        Ok(Some(Ok(opened))) => opened,
        Ok(_) => failed("its opening broke off; that is an error of this program".to_owned()),
        Err(_) => failed(format!("was not open within {} s", LONGEST_OPENING.as_secs())),
    }
}

/// Whether the item is to blame, or the way to its bucket. Only asked after a failure; `missed` says that the bucket
/// was out of reach meanwhile, which may be over. For the same reason the item is asked about again after another one.
async fn judged(
    opener: &Opener,
    item: &ItemSpec,
    witness: Option<&ItemSpec>,
    missed: bool,
    why: String,
) -> NotOpened {
    let because = |failure: Failure, why: String| NotOpened { why, failure };
    if why == WAITS {
        return because(Failure::Waits, why);
    }
    if matches!(item.at, MediaAt::Path(_)) {
        return because(Failure::Item, why);
    }
    match opener.reach(item).await {
        // The bucket says it better than whoever read from it.
        Reach::Refused(words) => return because(Failure::Item, words),
        Reach::There if !missed => return because(Failure::Item, why),
        Reach::There | Reach::Away => {}
    }
    let Some(other) = witness else { return because(Failure::Away, why) };
    let alone = opener.reach(other).await != Reach::Away && opener.reach(item).await == Reach::Away;
    because(if alone { Failure::Alone } else { Failure::Away }, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_opening_that_panics_is_one_that_failed() {
        let failed = brought_to_an_end(async { panic!("a parser met something new") }).await.unwrap_err();
        assert!(failed.failure == Failure::Item && failed.why.contains("broke off"), "{failed:?}");
        let refused = NotOpened { why: "is empty".to_owned(), failure: Failure::Item };
        let said = brought_to_an_end(async {
            Err(NotOpened { why: "is empty".to_owned(), failure: Failure::Item })
        });
        assert_eq!(said.await.unwrap_err(), refused);
    }
}
