//! The controller program: reads its environment, starts, and says in one line why it could not.

use std::io::Write;
use std::process::ExitCode;
use stream_controller::{app, config};

fn main() -> ExitCode {
    let mut out = std::io::stdout();
    match std::env::args().nth(1).as_deref() {
        None => {}
        Some("--help" | "-h") => return said(out.write_all(config::HELP.as_bytes())),
        Some("--version" | "-V") => {
            return said(writeln!(out, "stream-controller {}", env!("CARGO_PKG_VERSION")));
        }
        Some(other) => {
            eprintln!("stream-controller: unknown argument {other:?}; --help lists what there is");
            return ExitCode::from(2);
        }
    }
    match app::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stream-controller: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn said(written: std::io::Result<()>) -> ExitCode {
    if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
