//! A small file system of a test's own, to be full; and a file system that turns read-only.

use rustix::fs::statvfs;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A small file system in memory, mounted at a directory until this is dropped.
#[derive(Debug)]
pub struct Disk {
    mount: Mount,
}

/// A directory below which nothing can be written by whoever opens it by name, until this is
/// dropped; files that were open for writing before stay so.
#[derive(Debug)]
pub struct ReadOnly {
    _mount: Mount,
}

/// Something that is mounted; dropped, also by a test that fails, it is not any more.
#[derive(Debug)]
struct Mount {
    at: PathBuf,
}

impl Disk {
    /// Mounts one at `at`, which is made, with the options of a tmpfs such as `size=16m`; `None`
    /// where that is not allowed.
    pub fn mount(at: &Path, options: &str) -> Option<Self> {
        fs::create_dir_all(at).expect("a directory can be made");
        let mount = Mount::new(at, &["-t", "tmpfs", "-o", options, "tmpfs"])?;
        Some(Self { mount })
    }

    /// Takes all room but so many bytes.
    pub fn fill(&self, left: u64) {
        let mut filler = File::options()
            .create(true)
            .append(true)
            .open(self.mount.at.join(FILLER))
            .expect("a file can be made");
        while let Some(more) = self.free().checked_sub(left).filter(|more| *more > 0) {
            // What others free meanwhile is taken as well, and what they take is not.
            let more = vec![7; more.min(1 << 20) as usize];
            if filler.write_all(&more).is_err() {
                return;
            }
        }
    }

    /// Takes all inodes but so many.
    pub fn fill_inodes(&self, left: u64) {
        let fillers = self.mount.at.join(FILLERS);
        fs::create_dir_all(&fillers).expect("a directory can be made");
        for number in 0.. {
            if self.free_inodes() <= left || File::create(fillers.join(number.to_string())).is_err()
            {
                return;
            }
        }
    }

    /// Gives all of that back.
    pub fn empty(&self) {
        // Only one of them is there.
        let _ = fs::remove_file(self.mount.at.join(FILLER));
        let _ = fs::remove_dir_all(self.mount.at.join(FILLERS));
    }

    /// How many bytes are free.
    pub fn free(&self) -> u64 {
        let system = statvfs(&self.mount.at).expect("it is mounted");
        system.f_bavail * system.f_frsize
    }

    fn free_inodes(&self) -> u64 {
        statvfs(&self.mount.at).expect("it is mounted").f_favail
    }
}

impl ReadOnly {
    /// Makes a directory one; `None` where that is not allowed.
    pub fn over(directory: &Path) -> Option<Self> {
        let mount = Mount::new(directory, &["--bind", &directory.display().to_string()])?;
        let is_done = run("mount", &["-o", "remount,bind,ro"], directory);
        is_done.then_some(Self { _mount: mount })
    }
}

impl Mount {
    fn new(at: &Path, arguments: &[&str]) -> Option<Self> {
        run("mount", arguments, at).then(|| Self { at: at.to_owned() })
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Whoever has files open there keeps them, and nobody finds it any more.
        let _gone = run("umount", &["--lazy"], &self.at);
    }
}

fn run(program: &str, arguments: &[&str], at: &Path) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).arg(at).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

const FILLER: &str = ".filler";
const FILLERS: &str = ".fillers";
