//! Kills everything that belongs to a channel, at random moments: `kills --seconds N --seed S`. The last line it
//! prints is a report in JSON; the exit code is 0 when all agree in the end.

use anyhow::{Context, Result, bail};
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let mut out = std::io::stdout();
    let report = arguments().and_then(|(time, seed)| e2e::kills::run(time, seed));
    let (line, code) = match report {
        Ok(report) => (report.line(), ExitCode::SUCCESS),
        Err(error) => (format!("kills: {error:#}"), ExitCode::FAILURE),
    };
    // Nobody reads it: the exit code still tells.
    let _ = writeln!(out, "{line}");
    code
}

fn arguments() -> Result<(Duration, u64)> {
    let (mut seconds, mut seed) = (60, 1);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().with_context(|| format!("{name} needs a number"))?;
        let number = value.parse().with_context(|| format!("{name} {value}"))?;
        match name.as_str() {
            "--seconds" => seconds = number,
            "--seed" => seed = number,
            _ => bail!("usage: kills --seconds N --seed S"),
        }
    }
    Ok((Duration::from_secs(seconds), seed))
}
