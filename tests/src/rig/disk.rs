//! A small disk of its own: a tmpfs over a folder, which only root can mount.

use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted disk; unmounted when dropped.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
}

impl Disk {
    /// Mounts one of this size over a folder, which hides what is in it.
    pub fn over(folder: &Path, kib: u64) -> Result<Self> {
        let options = format!("size={kib}k,mode=0700");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder).output();
        let mount = mount.context("run mount")?;
        ensure!(
            mount.status.success(),
            "mount needs root and a kernel that lets it: {}",
            String::from_utf8_lossy(&mount.stderr)
        );
        Ok(Self { folder: folder.to_owned() })
    }

    /// Takes every byte that is left.
    pub fn fill(&self) -> Result<()> {
        let mut file = File::options().create(true).append(true).open(self.ballast())?;
        let mut piece = 64 * 1024;
        while piece > 0 {
            match file.write(&vec![0; piece]) {
                Ok(0) | Err(_) => piece /= 2,
                Ok(_) => {}
            }
        }
        Ok(())
    }

    /// Gives back what [`Self::fill`] took.
    pub fn clear(&self) -> Result<()> {
        std::fs::remove_file(self.ballast()).context("remove the ballast")
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily, because a program may still have files open.
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
    }
}
