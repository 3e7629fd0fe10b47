//! Faults of the machine that need root or minutes: `surviving [NAME…]`, all of them without a name. One line each: fault,
//! expected, measured, verdict; the exit code is 0 when all were survived.

use e2e::surviving::FAULTS;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let known = |name: &String| FAULTS.iter().any(|(fault, ..)| fault == name);
    let mut out = std::io::stdout();
    if let Some(unknown) = names.iter().find(|name| !known(name)) {
        let all: Vec<_> = FAULTS.iter().map(|(fault, ..)| *fault).collect();
        let _ = writeln!(out, "surviving: there is no fault {unknown}; there are: {}", all.join(" "));
        return ExitCode::from(2);
    }
    let mut survived = true;
    for (fault, expected, run) in FAULTS {
        if !names.is_empty() && !names.iter().any(|name| name == fault) {
            continue;
        }
        let (measured, verdict) = match run() {
            Ok(measured) => (measured, "survived"),
            Err(error) => (format!("{error:#}"), "FAILED"),
        };
        survived &= verdict == "survived";
        let _ = writeln!(out, "{fault} | {expected} | {measured} | {verdict}");
    }
    if survived { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
