//! Opening what was prepared instead of the original. The air never notices: a result has the times, the length and
//! the name of its item.

use super::disk;
use super::object::Input;
use super::open::{Opened, Opener};
use state::prepared::{self, Certificate};
use state::profile::Profile;
use state::wire::{ItemSpec, MediaAt};
use std::path::PathBuf;

impl Opener {
    /// Opens the result that was prepared for an item under a profile. `None` when there is none, or none that can
    /// be played: the original is opened then.
    pub async fn open_prepared(&self, item: &ItemSpec, profile: &Profile, from_ms: u64) -> Option<Opened> {
        let (path, certificate) = self.find_prepared(item, profile).await?;
        let stand_in = ItemSpec { at: MediaAt::Path(path.clone()), ..item.clone() };
        let (name, made) = (path.to_string_lossy(), certificate.made_at.to_string());
        let opened = match self.look(&name, &made, &Input::File(path.clone())).await {
            // Our own encoder made it, where that matters.
            Ok(info) => {
                let profile = Profile { uniform: false, ..profile.clone() };
                self.open(stand_in, info, &profile, from_ms, None).await
            }
            Err(why) => Err(why),
        };
        match opened {
            Ok(mut opened) => {
                opened.item = item.clone();
                opened.prepared = true;
                opened.recipe.reason = format!("prepared: {}", certificate.reason);
                Some(opened)
            }
            Err(reason) => {
                tracing::warn!(item.key = %item.key, reason, "what was prepared cannot be played");
                None
            }
        }
    }

    async fn find_prepared(&self, item: &ItemSpec, profile: &Profile) -> Option<(PathBuf, Certificate)> {
        let name = prepared::name(&item.key, &item.content, profile);
        let (_, certificate) = prepared::files(&self.cache_dir, &name);
        let (cache, wanted, profile) = (self.cache_dir.clone(), item.clone(), profile.clone());
        let found = disk::soon(&certificate, move || prepared::find(&cache, &wanted, &profile)).await;
        found.unwrap_or_else(|error| {
            tracing::warn!(item.key = %item.key, %error, "what was prepared cannot be looked for; the original is read");
            None
        })
    }
}
