//! What runs on this machine, read from `/proc`: to find what a test started, and what it left behind.

use std::collections::BTreeSet;
use std::path::Path;

/// A living process.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its parent's id.
    pub parent: u32,
    /// Its arguments, separated by blanks.
    pub arguments: String,
    /// Its environment, as far as it may be read, separated by line ends.
    pub environment: String,
}

impl Process {
    /// Whether `text` is in its arguments or environment.
    pub fn names(&self, text: &str) -> bool {
        self.arguments.contains(text) || self.environment.contains(text)
    }
}

/// Every living process; zombies are dead.
pub fn all() -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|e| read(e.file_name().to_str()?.parse().ok()?)).collect()
}

/// `root` and everything that it started, directly or not.
pub fn tree(root: u32) -> Vec<Process> {
    let all = all();
    let mut known = BTreeSet::from([root]);
    loop {
        let more: Vec<u32> = all
            .iter()
            .filter(|p| known.contains(&p.parent) && !known.contains(&p.pid))
            .map(|p| p.pid)
            .collect();
        if more.is_empty() {
            return all.into_iter().filter(|p| known.contains(&p.pid)).collect();
        }
        known.extend(more);
    }
}

/// Processes that name `folder` in their arguments or environment, whoever their parent is now.
pub fn of_folder(folder: &Path) -> Vec<Process> {
    let folder = folder.to_string_lossy();
    let own = std::process::id();
    all().into_iter().filter(|p| p.pid != own && p.names(&folder)).collect()
}

fn read(pid: u32) -> Option<Process> {
    let file = |name: &str| std::fs::read(format!("/proc/{pid}/{name}"));
    let text = |bytes: Vec<u8>, between: &str| String::from_utf8_lossy(&bytes).replace('\0', between);
    let stat = text(file("stat").ok()?, "");
    // The name in brackets may hold anything; the fields begin after the last bracket.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then(|| Process {
        pid,
        parent,
        arguments: text(file("cmdline").unwrap_or_default(), " "),
        environment: text(file("environ").unwrap_or_default(), "\n"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_in_the_tree_and_gone_when_it_was_waited_for() {
        let mut child = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        let seen = |pid| tree(std::process::id()).iter().any(|p| p.pid == pid);
        assert!(seen(child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!seen(child.id()));
    }
}
