//! How a person selects archives: by packages, by files that name them, or all.

use super::Failure;
use super::named_file::problem;
use crate::keeper::selector::{Packages, Selector};
use crate::opam::Wanted;
use crate::package_pattern::PackagePattern;
use clap::Args;
use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The arguments that select archives.
#[derive(Debug, Args)]
pub(super) struct Selecting {
    /// Packages, as name, name.version or a pattern such as "mirage-*"; - reads a file from
    /// standard input
    #[arg(value_name = "PACKAGE")]
    packages: Vec<String>,
    /// What a file names: a lock file (opam lock), an export (opam switch export), or a list of
    /// name.version; - is standard input
    #[arg(long, value_name = "FILE")]
    from: Vec<PathBuf>,
    /// Everything
    #[arg(long, conflicts_with_all = ["packages", "from"])]
    all: bool,
    /// Of this repository only
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
}

/// What the arguments come to.
pub(super) struct Selection {
    pub selector: Selector,
    /// Packages that come from no repository, so that no mirror has them.
    pub pinned: BTreeSet<String>,
}

impl Selecting {
    /// Reads what is to be read; everything when nothing is said.
    pub(super) fn read_or_all(&self) -> Result<Selection, Failure> {
        match self.packages.is_empty() && self.from.is_empty() {
            true => Ok(self.everything()),
            false => self.read(),
        }
    }

    fn everything(&self) -> Selection {
        let repository = self.repository.clone();
        let selector = Selector { repository, packages: Packages::All };
        Selection { selector, pinned: BTreeSet::new() }
    }

    /// Reads what is to be read.
    pub(super) fn read(&self) -> Result<Selection, Failure> {
        if self.all {
            return Ok(self.everything());
        }
        let (mut named, mut pinned) = (BTreeSet::new(), BTreeSet::new());
        let mut files: Vec<&Path> = self.from.iter().map(PathBuf::as_path).collect();
        for package in &self.packages {
            match package.as_str() {
                STANDARD_INPUT => files.push(Path::new(STANDARD_INPUT)),
                package => drop(named.insert(pattern(package)?)),
            }
        }
        for file in files {
            let wanted = wanted(file)?;
            named.extend(wanted.packages);
            pinned.extend(wanted.pinned);
        }
        if named.is_empty() && pinned.is_empty() {
            return Err(Failure::Usage(
                "say what: packages, --from a lock file, or --all".to_owned(),
            ));
        }
        let repository = self.repository.clone();
        let selector = Selector { repository, packages: Packages::Named(named) };
        Ok(Selection { selector, pinned })
    }
}

fn pattern(text: &str) -> Result<PackagePattern, Failure> {
    text.parse().map_err(|error| {
        // A file that is named without --from is what is most often meant.
        let hint = if Path::new(text).exists() { "; --from reads a file" } else { "" };
        Failure::Usage(format!("\"{text}\" is no package: {error}{hint}"))
    })
}

fn wanted(file: &Path) -> Result<Wanted, Failure> {
    let is_input = file == Path::new(STANDARD_INPUT);
    let name = if is_input { "standard input".to_owned() } else { file.display().to_string() };
    let failed = |error: &dyn std::fmt::Display| Failure::Usage(format!("{name}: {error}"));
    let mut source: Box<dyn Read> = match is_input {
        true => Box::new(std::io::stdin().lock()),
        false => {
            let opened = std::fs::File::open(file);
            Box::new(opened.map_err(|error| Failure::Usage(problem(file, &error)))?)
        }
    };
    let (mut bytes, limit) = (Vec::new(), Wanted::MAX_SIZE);
    let read = source.by_ref().take(limit as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| failed(&error))?;
    if bytes.len() > limit {
        return Err(failed(&format!("longer than {} MiB, so it is no list", limit >> 20)));
    }
    Wanted::read(&bytes).map_err(|error| failed(&error))
}

const STANDARD_INPUT: &str = "-";
