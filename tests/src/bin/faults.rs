//! `faults [--short] [--scale F] [--page FILE] [--list] [NAME…]`: tries faults on the real programs, one after
//! another, and prints what came of each. The exit code is 0 when every promise was kept.

use anyhow::{Context, Result, bail};
use e2e::faults::{Fault, Scale, all, report, try_it};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

struct Wish {
    faults: Vec<Fault>,
    scale: Scale,
    page: Option<PathBuf>,
    list: bool,
}

fn main() -> ExitCode {
    match wish(std::env::args().skip(1)).and_then(run) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("faults: {error:#}"));
            ExitCode::from(2)
        }
    }
}

/// Nobody may be reading: the exit code still tells.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn run(wish: Wish) -> Result<bool> {
    if wish.list {
        wish.faults.iter().for_each(|f| say(&format!("{:12} {:20} {}", f.group, f.name, f.promise)));
        return Ok(true);
    }
    let mut outcomes = Vec::new();
    for fault in wish.faults {
        let outcome = try_it(fault, &wish.scale);
        say(&report::line(&outcome));
        if let Err(error) = &outcome.result {
            let _ = writeln!(std::io::stderr(), "{}: {error:#}", outcome.fault.name);
        }
        outcomes.push(outcome);
    }
    let broken = outcomes.iter().filter(|outcome| outcome.result.is_err()).count();
    say(&format!("{} of {} promises kept", outcomes.len() - broken, outcomes.len()));
    if let Some(path) = wish.page {
        let method = std::env::var("FAULTS_METHOD").unwrap_or_default();
        std::fs::write(&path, report::page(&outcomes, &method))
            .with_context(|| format!("write {}", path.display()))?;
    }
    Ok(broken == 0)
}

fn wish(mut given: impl Iterator<Item = String>) -> Result<Wish> {
    let mut wish = Wish { faults: all(), scale: Scale(1.0), page: None, list: false };
    let mut named = Vec::new();
    while let Some(word) = given.next() {
        let mut value = || given.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--short" => wish.faults.retain(|fault| fault.short),
            "--scale" => wish.scale = Scale(value()?.parse().context("--scale needs a number such as 0.5")?),
            "--page" => wish.page = Some(value()?.into()),
            "--list" => wish.list = true,
            name if !name.starts_with('-') => named.push(name.to_owned()),
            other => bail!("unknown argument {other}"),
        }
    }
    if let Some(unknown) = named.iter().find(|name| wish.faults.iter().all(|fault| fault.name != **name)) {
        bail!("there is no fault {unknown}; see --list");
    }
    if !named.is_empty() {
        wish.faults.retain(|fault| named.iter().any(|name| name == fault.name));
    }
    Ok(wish)
}
