//! `streamctl`: the command line of stream-controller. What it does to media in storage needs no
//! controller that runs, only the same environment; preparing media is the running controller's work.
//!
//! Exit codes: 0 all done; 1 something failed, with one line each on stderr; 2 it was called or configured wrongly.
//! Results go to stdout, everything else to stderr.

mod api;
mod args;
mod channel;
mod destination;
mod environment;
mod media;
mod show;

use args::{Args, Command};
use clap::Parser;
use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All done.
    Done,
    /// Something failed; it has been said.
    Failed,
    /// It was called or configured wrongly; it has been said.
    Misused,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(match outcome {
            Outcome::Done => 0,
            Outcome::Failed => 1,
            Outcome::Misused => 2,
        })
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            show::error(&format!("cannot start: {error}"));
            return Outcome::Failed.into();
        }
    };
    runtime.block_on(run(args)).into()
}

async fn run(args: Args) -> Outcome {
    let surroundings = match environment::read(args.env_file.as_deref()) {
        Ok(surroundings) => surroundings,
        Err(problems) => {
            problems.iter().for_each(|problem| show::error(problem));
            return Outcome::Misused;
        }
    };
    match args.command {
        Command::Destination { channel, action } => {
            destination::run(action, &channel, &surroundings, args.json)
        }
        Command::Media { action } => media::run(action, &surroundings, args.json).await,
        Command::Channel { action } => channel::run(action, &surroundings, args.json),
    }
}
