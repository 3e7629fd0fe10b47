//! What is wrong with this machine: disks, descriptors, memory, the clock. Looking is done on another thread, because
//! a disk that hangs must hold up nobody.

use super::book::Finding;
use super::kind::Kind;
use super::shape::length;
use rustix::time::{ClockId, clock_gettime};
use state::Timestamp;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A disk with less than this part free is low, unless [`ENOUGH`] bytes are.
const LOW_PART: u64 = 20;

/// So many free bytes are enough, however large the disk is.
const ENOUGH: u64 = 1 << 30;

/// The wall clock may drift by this much between two looks before that is a step, ms.
const STEP_MS: i64 = 5000;

/// What is looked at.
#[derive(Debug, Clone)]
pub struct Places {
    /// Folders and the settings that name them.
    pub folders: Vec<(&'static str, PathBuf)>,
    /// Processes whose descriptors are counted, and what people call them.
    pub processes: Vec<(String, u32)>,
}

/// What was seen before, where the change matters.
#[derive(Debug, Clone, Default)]
pub struct Before {
    oom_kills: Option<u64>,
    low: BTreeSet<&'static str>,
}

/// Looks at the machine. May wait for a disk.
pub fn look(places: &Places, before: &mut Before) -> Vec<Finding> {
    let mut found = disks(&places.folders, &mut before.low);
    found.extend(places.processes.iter().filter_map(|(name, pid)| descriptors(name, *pid)));
    let kills = oom_kills();
    found.extend(memory(before.oom_kills, kills));
    before.oom_kills = kills.or(before.oom_kills);
    found
}

/// Folders on the same disk are told once, by the first of them.
fn disks(folders: &[(&'static str, PathBuf)], low: &mut BTreeSet<&'static str>) -> Vec<Finding> {
    let mut devices = BTreeSet::new();
    let own = folders.iter().filter(|(_, path)| fs::metadata(path).is_ok_and(|m| devices.insert(m.dev())));
    let own: Vec<_> = own.collect();
    own.into_iter().filter_map(|(name, path)| disk(name, path, low)).collect()
}

fn disk(name: &'static str, path: &Path, low: &mut BTreeSet<&'static str>) -> Option<Finding> {
    let disk = rustix::fs::statvfs(path).ok()?;
    let (free, total) =
        (disk.f_bavail.saturating_mul(disk.f_frsize), disk.f_blocks.saturating_mul(disk.f_frsize));
    let lack = if is_low(free, total, low.contains(name)) {
        format!("has {} of {} left", bytes(free), bytes(total))
    } else if disk.f_files > 0 && disk.f_favail.saturating_mul(100) < disk.f_files {
        format!("has room for {} more files only", disk.f_favail)
    } else {
        low.remove(name);
        return None;
    };
    low.insert(name);
    let sentence =
        format!("The disk of {name} ({}) {lack}; delete something or make it larger.", path.display());
    Some(Finding::new(Kind::DiskLow, sentence).about(name))
}

/// One that was low must have a fifth more than that to be well again.
fn is_low(free: u64, total: u64, was_low: bool) -> bool {
    let limit = (total / LOW_PART).min(ENOUGH);
    free < if was_low { limit + limit / 5 } else { limit }
}

fn bytes(count: u64) -> String {
    match count {
        0..10_000_000 => format!("{} kB", count / 1000),
        10_000_000..10_000_000_000 => format!("{} MB", count / 1_000_000),
        _ => format!("{} GB", count / 1_000_000_000),
    }
}

/// Nine of ten descriptors in use are too many.
fn descriptors(name: &str, pid: u32) -> Option<Finding> {
    let words = match used_of(&PathBuf::from(format!("/proc/{pid}"))) {
        Ok((used, limit)) if used.saturating_mul(10) >= limit.saturating_mul(9) => {
            format!("{used} of {limit}")
        }
        // It is we who have none left to look with.
        Err(error) if error.raw_os_error() == Some(libc::EMFILE) => "all".to_owned(),
        _ => return None,
    };
    let sentence = format!("{name} uses {words} file descriptors; raise LimitNOFILE and restart it.");
    Some(Finding::new(Kind::DescriptorsLow, sentence).about(name))
}

fn used_of(process: &Path) -> io::Result<(u64, u64)> {
    let used = open_files(&process.join("fd"))?;
    let limit = soft_limit(&fs::read_to_string(process.join("limits"))?);
    Ok((used, limit.unwrap_or(u64::MAX)))
}

/// Since Linux 6.2 the size of the folder is their number (proc_pid_fd(5)); before, it is 0 and they are counted.
fn open_files(folder: &Path) -> io::Result<u64> {
    match fs::metadata(folder)?.len() {
        0 => Ok(fs::read_dir(folder)?.count() as u64),
        count => Ok(count),
    }
}

fn soft_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn memory(before: Option<u64>, now: Option<u64>) -> Option<Finding> {
    let more = now?.checked_sub(before?).filter(|more| *more > 0)?;
    let sentence = format!(
        "Memory ran out and the kernel ended {more} of the processes here; give the machine more memory or fewer channels."
    );
    Some(Finding::new(Kind::MemoryOut, sentence))
}

/// How many processes the kernel has ended for want of memory: of our control group, else of the machine.
fn oom_kills() -> Option<u64> {
    let group = fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| own_group(&text));
    let of_group = group.and_then(|group| counter(&fs::read_to_string(group).ok()?));
    of_group.or_else(|| counter(&fs::read_to_string("/proc/vmstat").ok()?))
}

/// `0::/system.slice/x.service` names the group of the unified hierarchy (cgroups(7)).
fn own_group(text: &str) -> Option<PathBuf> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(Path::new("/sys/fs/cgroup").join(path).join("memory.events"))
}

fn counter(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

/// Whether the wall clock was set between two looks.
#[derive(Debug, Default)]
pub struct Clock(Option<i64>);

impl Clock {
    /// Compares the wall clock with the one that only counts, which a suspended machine does not stop.
    pub fn look(&mut self, wall: Timestamp) -> Option<Finding> {
        let counted = clock_gettime(ClockId::Boottime);
        let counted = counted.tv_sec.saturating_mul(1000).saturating_add(counted.tv_nsec / 1_000_000);
        self.step(wall.as_millisecond() - counted)
    }

    fn step(&mut self, apart: i64) -> Option<Finding> {
        let moved = apart - self.0.replace(apart)?;
        (moved.abs() > STEP_MS).then(|| {
            let (way, by) = (if moved > 0 { "forward" } else { "back" }, length((moved.unsigned_abs() + 500) / 1000));
            let sentence = format!(
                "The clock of this machine was set {way} by {by}; channels play on, but look at its time synchronisation (timedatectl)."
            );
            Finding::new(Kind::ClockStepped, sentence)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_low_by_its_size_but_never_with_a_gibibyte_left() {
        let (mb, gb) = (1_000_000, 1_000_000_000);
        assert!(is_low(4 * mb, 100 * mb, false) && !is_low(6 * mb, 100 * mb, false));
        assert!(!is_low(2 * gb, 1000 * gb, false) && is_low(gb, 1000 * gb, false));
        // It does not come and go at the limit.
        assert!(is_low(5_500_000, 100 * mb, true) && !is_low(5_500_000, 100 * mb, false));
    }

    #[test]
    fn our_own_descriptors_can_be_counted() {
        let own = std::process::id();
        assert_eq!(descriptors("this", own), None);
        let folder = Path::new("/proc/self/fd");
        let _held: Vec<_> = (0..300).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        let (told, counted) = (open_files(folder).unwrap(), fs::read_dir(folder).unwrap().count() as u64);
        assert!(told > 300 && told.abs_diff(counted) < 100, "{told} and {counted}");
        let limits = "Limit Soft Hard Units\nMax open files            1024                 524288 files\n";
        assert_eq!(soft_limit(limits), Some(1024));
    }

    #[test]
    fn only_a_new_kill_for_want_of_memory_is_news() {
        assert_eq!(memory(None, Some(3)), None);
        assert_eq!(memory(Some(3), Some(3)), None);
        assert!(memory(Some(3), Some(4)).is_some());
        assert_eq!(counter("low 0\noom 5\noom_kill 4\noom_group_kill 0\n"), Some(4));
        let group = own_group("0::/system.slice/x.service\n").unwrap();
        assert_eq!(group, Path::new("/sys/fs/cgroup/system.slice/x.service/memory.events"));
    }

    #[test]
    fn a_clock_that_is_set_is_noticed_and_one_that_drifts_is_not() {
        let mut clock = Clock::default();
        let sentence = |found: Option<Finding>| found.map(|finding| finding.sentence).unwrap_or_default();
        assert_eq!(clock.step(1000), None);
        assert_eq!(clock.step(5900), None);
        assert!(sentence(clock.step(3_605_900)).contains("forward by 60 min"));
        assert!(sentence(clock.step(5900)).contains("back by 60 min"));
        assert_eq!(clock.step(5900), None);
    }
}
