//! Entries as CSV (RFC 4180) that a spreadsheet takes without running anything in it.

use super::as_run::Entry;
use serde::Serialize;
use state::Timestamp;

/// The first line.
pub const HEADER: &str = "started_at,kind,key,id,media_ms,duration_ms,in_ms,out_ms,ended,reason,exact,resumed,\
                          video,audio,decision,source,run,session\r\n";

/// One line, its end included.
pub fn line(entry: &Entry) -> String {
    let cells = [
        time(entry.started_at),
        word(entry.kind),
        text(entry.key.as_deref()),
        text(entry.id.as_ref().map(|id| id.as_str())),
        number(entry.media_ms),
        number(entry.duration_ms),
        number(entry.in_ms),
        number(entry.out_ms),
        word(entry.ended),
        text(entry.reason.as_deref()),
        entry.exact.to_string(),
        entry.resumed.to_string(),
        entry.video.map_or_else(String::new, word),
        entry.audio.map_or_else(String::new, word),
        text(entry.decision.as_deref()),
        text(entry.source.as_deref()),
        text(Some(entry.run.as_str())),
        text(entry.session.as_ref().map(|id| id.as_str())),
    ];
    cells.join(",") + "\r\n"
}

fn time(at: Timestamp) -> String {
    format!("{at:.3}")
}

fn number(number: Option<impl ToString>) -> String {
    number.map_or_else(String::new, |n| n.to_string())
}

/// The JSON word of an enum.
fn word(of: impl Serialize) -> String {
    let value = serde_json::to_value(of).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

/// A cell of text. What a spreadsheet would take for a formula gets an apostrophe in front, as OWASP advises.
fn text(text: Option<&str>) -> String {
    let text = text.unwrap_or_default();
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    if text.contains(['"', ',', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_where_they_must_and_formulas_are_text() {
        for (given, cell) in [
            ("a.mp4", "a.mp4"),
            ("a, b.mp4", "\"a, b.mp4\""),
            ("the \"best\"", "\"the \"\"best\"\"\""),
            ("two\r\nlines", "\"two\r\nlines\""),
            ("=HYPERLINK(\"x\")", "\"'=HYPERLINK(\"\"x\"\")\""),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@x", "'@x"),
            ("\tx", "'\tx"),
        ] {
            assert_eq!(text(Some(given)), cell);
        }
        assert_eq!(text(None), "");
    }
}
