//! The clock of the books.

use rustix::time::{ClockId, clock_gettime};
use state::Timestamp;
use state::totals::Moment;
use std::sync::OnceLock;

/// The moment that the wall clock calls `wall`.
pub fn moment(wall: Timestamp) -> Moment {
    static BOOT: OnceLock<String> = OnceLock::new();
    let boot = BOOT.get_or_init(|| {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        id.trim().to_owned()
    });
    let time = clock_gettime(ClockId::Boottime);
    let ms = u64::try_from(time.tv_sec).unwrap_or(0) * 1000;
    Moment { wall, boot: boot.clone(), boot_ms: ms + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000 }
}
