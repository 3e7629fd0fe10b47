//! Opening what was prepared instead of the original. The air never notices: a result has the times, the length and
//! the name of its item.

use super::object::Input;
use super::open::{Opened, Opener};
use state::prepared;
use state::profile::Profile;
use state::wire::{ItemSpec, MediaAt};

impl Opener {
    /// Opens the result that was prepared for an item under a profile. `None` when there is none, or none that can
    /// be played: the original is opened then.
    pub async fn open_prepared(&self, item: &ItemSpec, profile: &Profile, from_ms: u64) -> Option<Opened> {
        let (path, certificate) = prepared::find(&self.cache_dir, item, profile)?;
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
                opened.recipe.reason = format!("prepared: {}", certificate.reason);
                Some(opened)
            }
            Err(reason) => {
                tracing::warn!(item.key = %item.key, reason, "what was prepared cannot be played");
                None
            }
        }
    }
}
