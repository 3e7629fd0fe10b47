//! What came of the faults: a table for the screen and a page for the docs.

use super::Outcome;
use std::fmt::Write;

/// One line about one fault.
pub fn line(outcome: &Outcome) -> String {
    let Outcome { fault, took, result } = outcome;
    let took = took.as_secs();
    match result {
        Ok(measured) => {
            let gap = measured.gap_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
            format!("kept    {:20} {gap:>9}  {:3} s  {}", fault.name, took, measured.words)
        }
        Err(error) => format!("BROKEN  {:20} {:>9}  {took:3} s  {}", fault.name, "-", why(error)),
    }
}

/// The innermost reason in one line: what is around it are logs and statuses.
fn why(error: &anyhow::Error) -> String {
    error.root_cause().to_string().lines().next().unwrap_or_default().to_owned()
}

/// The page: what is promised, what was measured, by group. `method` says with what and how.
pub fn page(outcomes: &[Outcome], method: &str) -> String {
    let mut page = format!(
        "# Reliability\n\nWritten by `scripts/faults.sh`. Every line is a fault that was done to the real programs, \
         and what the receivers saw of it.\n\n{method}\n\nGap: the longest time from one picture to the next, in the \
         timestamps that arrived at the destination that counts: the one that nothing was done to, or the only one. \
         For programs that die it is the time without a connection, by the clock of the receiver.\n"
    );
    let mut group = "";
    for outcome in outcomes {
        let fault = outcome.fault;
        if fault.group != group {
            group = fault.group;
            let _ = write!(
                page,
                "\n## {group}\n\n| fault | promise | gap | seen | verdict |\n|---|---|---|---|---|\n"
            );
        }
        let (gap, words, verdict) = match &outcome.result {
            Ok(m) => (m.gap_ms.map_or("–".to_owned(), |ms| format!("{ms} ms")), m.words.clone(), "kept"),
            Err(error) => ("–".to_owned(), why(error).replace('|', " "), "**broken**"),
        };
        let _ = writeln!(page, "| `{}` | {} | {gap} | {words} | {verdict} |", fault.name, fault.promise);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::{Measured, all};
    use std::time::Duration;

    #[test]
    fn a_broken_promise_is_broken_on_the_screen_and_on_the_page() {
        let fault = all()[0];
        let took = Duration::from_secs(3);
        let kept = Measured { gap_ms: Some(40), words: "fine".into() };
        let outcomes = [
            Outcome { fault, took, result: Ok(kept) },
            Outcome { fault, took, result: Err(anyhow::anyhow!("dark | for 9 s\nlog")) },
        ];
        assert!(line(&outcomes[0]).starts_with("kept") && line(&outcomes[1]).starts_with("BROKEN"));
        let page = page(&outcomes, "On a test.");
        assert!(page.contains("| 40 ms | fine | kept |"), "{page}");
        assert!(page.contains("| dark   for 9 s | **broken** |"), "{page}");
    }
}
