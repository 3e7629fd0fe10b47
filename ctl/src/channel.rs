//! `streamctl channel`: what the running controller does with its channels.

use crate::api::Api;
use crate::args::{Channel, Switch};
use crate::environment::Surroundings;
use crate::{Outcome, show};
use serde_json::json;

/// Does it.
pub(crate) fn run(action: Channel, surroundings: &Surroundings, as_json: bool) -> Outcome {
    match action {
        Channel::Slate { channel, state } => slate(&channel, state, surroundings, as_json),
    }
}

fn slate(channel: &str, state: Switch, surroundings: &Surroundings, as_json: bool) -> Outcome {
    let on = state == Switch::On;
    // A name that would lead to another place is no channel's name.
    if channel.parse::<state::ids::ChannelId>().is_err() {
        show::error(&format!("{channel:?} is not the name of a channel: a-z, 0-9, '-' and '_'"));
        return Outcome::Misused;
    }
    let path = format!("/api/channels/{channel}/slate");
    match Api::find(surroundings).and_then(|api| api.post(&path, &json!({ "on": on }))) {
        Ok(status) if as_json => show::json(&status),
        Ok(_) => {
            let words = if on { "the fallback goes on the air" } else { "the programme goes on" };
            show::line(&format!("{channel}: {words}"));
        }
        Err(words) => {
            show::error(&words);
            return Outcome::Failed;
        }
    }
    Outcome::Done
}
