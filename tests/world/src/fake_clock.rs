//! A wall clock that a test sets while a program runs: libfaketime, which leaves the monotonic
//! clock and the times of files alone.

use std::fs;
use std::path::{Path, PathBuf};

/// What one program takes for the time.
#[derive(Clone, Debug)]
pub struct FakeClock {
    library: PathBuf,
    file: PathBuf,
}

impl FakeClock {
    /// One that tells the truth at first and is set by a file in `directory`; `None` where
    /// libfaketime is not installed.
    pub fn new(directory: &Path) -> Option<Self> {
        let triplets = fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
        let mut libraries = triplets.map(|triplet| triplet.join("faketime/libfaketime.so.1"));
        let library = libraries.find(|library| library.is_file())?;
        let clock = Self { library, file: directory.join("faketime") };
        clock.set("+0");
        Some(clock)
    }

    /// Sets it this far from the truth, such as `+365d` or `-2h`.
    pub fn set(&self, offset: &str) {
        // In one step: the program may read it at any time.
        let next = self.file.with_extension("next");
        fs::write(&next, offset)
            .and_then(|()| fs::rename(&next, &self.file))
            .expect("a file can be written");
    }

    /// What the program needs in its environment.
    pub fn variables(&self) -> [(&'static str, String); 5] {
        let (library, file) = (self.library.display(), self.file.display());
        [
            ("LD_PRELOAD", library.to_string()),
            ("FAKETIME_TIMESTAMP_FILE", file.to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("NO_FAKE_STAT", "1".to_owned()),
        ]
    }
}
