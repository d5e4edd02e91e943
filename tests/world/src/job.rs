//! A CI job: shell scripts in a project, with an empty home and one opam.

use crate::opam::Version;
use crate::run::{Run, run};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// A machine that a CI service just made: it trusts what the system trusts, reaches nothing but
/// this machine, and its project depends on `hello`.
#[derive(Debug)]
pub struct Job {
    home: TempDir,
    variables: BTreeMap<String, String>,
}

impl Job {
    /// A job whose `opam` is of that version; `None` where there is none.
    pub fn fresh(version: Version) -> Option<Self> {
        let program = version.find()?;
        let job = Self::without_opam();
        job.program("opam", &program);
        Some(job)
    }

    /// A job with the system's programs alone.
    pub fn without_opam() -> Self {
        let home = tempfile::tempdir().expect("a directory can be made");
        let job = Self { home, variables: BTreeMap::new() };
        for directory in ["bin", "temp", "project"] {
            std::fs::create_dir(job.path(directory)).expect("a directory can be made");
        }
        let project = "opam-version: \"2.0\"\nname: \"project\"\nversion: \"dev\"\n\
                       depends: [\"hello\"]\n";
        job.write("project/project.opam", project);
        job
    }

    /// Has it find `program` under `name`, before the system's own.
    pub fn program(&self, name: &str, program: &Path) {
        std::os::unix::fs::symlink(program, self.path("bin").join(name))
            .expect("a link can be made");
    }

    /// Sets a variable of the environment for all that runs from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    /// A file or directory of the home; `project` is where scripts run.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Writes a file of the home.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("a file can be written");
    }

    /// Runs a script of `shell` that ends at the first command that fails.
    pub fn script(&self, shell: &str, script: &str) -> Run {
        self.wrapped(&[shell, "-e", "-c", script])
    }

    /// Runs a program with arguments.
    pub fn wrapped(&self, words: &[&str]) -> Run {
        let (program, arguments) = words.split_first().expect("a command has a program");
        run(self.command(program).args(arguments), PATIENCE)
    }

    fn command(&self, program: &str) -> Command {
        let system = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", format!("{}:{system}", self.path("bin").display()))
            .env("HOME", self.home.path())
            .env("TMPDIR", self.path("temp"))
            .env("LC_ALL", "C.UTF-8")
            .env("OPAMNODEPEXTS", "1")
            .env("OPAMCOLOR", "never")
            // What does not come from the mirror must fail, on machines with the internet too.
            .env("http_proxy", NOWHERE)
            .env("https_proxy", NOWHERE)
            .env("no_proxy", "localhost,127.0.0.1")
            .envs(&self.variables)
            .current_dir(self.path("project"));
        command
    }
}

const NOWHERE: &str = "http://127.0.0.1:9";
const PATIENCE: Duration = Duration::from_secs(600);
