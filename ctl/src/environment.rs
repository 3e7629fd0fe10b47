//! The environment that the controller reads too, or a file of it.

use state::storage::StorageSettings;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What the commands need to know.
pub(crate) struct Surroundings {
    /// Where media live.
    pub(crate) storage: StorageSettings,
    /// Certificates to trust besides the system's.
    pub(crate) tls_ca_file: Option<PathBuf>,
    /// Name or path.
    pub(crate) ffprobe: PathBuf,
}

/// Reads the environment; variables of `file` win.
///
/// # Errors
/// Every problem, one line each, without secrets.
pub(crate) fn read(file: Option<&Path>) -> Result<Surroundings, Vec<String>> {
    let set = match file {
        None => BTreeMap::new(),
        Some(file) => {
            let text = std::fs::read_to_string(file).map_err(|e| vec![format!("{}: {e}", file.display())])?;
            parse(&text)
                .map_err(|line| vec![format!("{}, line {line}: must be NAME=value", file.display())])?
        }
    };
    let variable = |name: &str| set.get(name).cloned().or_else(|| std::env::var(name).ok());
    let filled =
        |name: &str| variable(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let read = |name: &str| filled(name).or_else(|| credential(filled("CREDENTIALS_DIRECTORY"), name));
    Ok(Surroundings {
        storage: storage::settings_from(&read)?,
        tls_ca_file: filled("TLS_CA_FILE").map(PathBuf::from),
        ffprobe: filled("FFPROBE_PATH").unwrap_or_else(|| "ffprobe".to_owned()).into(),
    })
}

fn credential(folder: Option<String>, name: &str) -> Option<String> {
    std::fs::read_to_string(Path::new(&folder?).join(name.to_lowercase())).ok()
}

/// Lines as systemd's `EnvironmentFile=` takes them: comments, quotes around a value, `export` in front.
///
/// # Errors
/// The number of the first line that is none of them.
fn parse(text: &str) -> Result<BTreeMap<String, String>, usize> {
    let mut set = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=').ok_or(number + 1)?;
        let name = name.trim();
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(number + 1);
        }
        set.insert(name.to_owned(), unquoted(value.trim()).to_owned());
    }
    Ok(set)
}

fn unquoted(value: &str) -> &str {
    let inside = |quote: char| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    inside('"').or_else(|| inside('\'')).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_variables_reads_as_systemd_reads_it() {
        let set =
            parse("# storage\n\nA=1\nexport B = two words \nC=\"quoted = #\"\nD='x'\nE=\n; end\n").unwrap();
        let pairs: Vec<_> = set.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("A", "1"), ("B", "two words"), ("C", "quoted = #"), ("D", "x"), ("E", "")]);
    }

    #[test]
    fn a_line_that_is_no_variable_is_named_by_its_number_and_not_shown() {
        assert_eq!(parse("A=1\nhush hush\n"), Err(2));
        assert_eq!(parse("A B=1"), Err(1));
    }
}
