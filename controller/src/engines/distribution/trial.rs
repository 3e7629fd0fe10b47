//! Trying a destination without publishing: few at once, and without its stream key.

use super::edit::unknown;
use crate::engines::fields::Fields;
use crate::engines::{House, unknown_channel};
use crate::error::Problem;
use crate::supervisor::trial::{self, Trial};
use serde_json::Value;
use state::channel::FieldProblem;
use state::ids::{ChannelId, DestinationId};
use state::mask;
use state::secret::Secret;
use state::wire::DestinationSpec;

/// Most trials at once.
pub const MOST: usize = 2;

/// Tries the way to a destination; with `{"backup": true}` its other way in.
///
/// # Errors
/// 404 unknown channel or destination; 422 what is wrong with the body; 429 others are being tried; 503 it cannot be
/// tried now.
pub async fn trial(
    house: &House,
    channel: &ChannelId,
    id: &DestinationId,
    body: Value,
) -> Result<Trial, Problem> {
    let backup = read(body).map_err(Problem::invalid)?;
    let wish = house.wishes.get(channel).ok_or_else(|| unknown_channel(channel))?;
    let wanted = house.keyring.of(&wish).into_iter().find(|wanted| wanted.shown.id == *id);
    let shown = wanted.ok_or_else(|| unknown(channel, id))?.shown;
    let url = match (backup, shown.backup_url) {
        (false, _) => shown.url,
        (true, Some(url)) => url,
        (true, None) => {
            let words = "cannot be true: the destination has no backup_url";
            return Err(Problem::invalid(vec![FieldProblem::at("/backup", words)]));
        }
    };
    let Ok(_turn) = house.trials.try_acquire() else {
        return Err(Problem::new(429, format!("{MOST} destinations are being tried; ask again in a moment")));
    };
    // Nothing is published, so no key is needed; one that is not sent cannot leak.
    let spec = DestinationSpec::new(shown.id, shown.name, shown.platform, url, Secret::default());
    let mut trial = trial::run(&house.config, &spec).await.map_err(Problem::unavailable)?;
    let secrets = house.briefing.secrets(&wish);
    for step in &mut trial.steps {
        step.words = mask::line(&step.words, &secrets);
    }
    Ok(trial)
}

fn read(body: Value) -> Result<bool, Vec<FieldProblem>> {
    let mut problems = Vec::new();
    let backup = Fields::of(body, "", &mut problems).and_then(|mut fields| {
        let backup = fields.get("backup", "true or false");
        fields.finish();
        backup
    });
    if problems.is_empty() { Ok(backup.unwrap_or(false)) } else { Err(problems) }
}
