//! Runs the git program: alone with what it is told, bounded, and gone when it is given up.

use super::RepositoryError;
use crate::archive::is_deceptive;
use crate::safe_url::SafeUrl;
use rustix::process::{Pid, Signal, kill_process_group};
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

/// git, as used for one repository.
///
/// It sees nothing of the environment but `PATH`, and no configuration but `settings`. These go
/// through the environment, where other users of the machine don't see them as they would see
/// arguments: they may hold credentials.
#[derive(Debug)]
pub(super) struct Git {
    pub(super) url: Box<SafeUrl>,
    /// An existing directory; the repository itself is `repository` in it.
    pub(super) directory: PathBuf,
    pub(super) global_config: PathBuf,
    pub(super) settings: Vec<(String, String)>,
}

/// What one run may use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) time: Duration,
    /// Bytes of output.
    pub(super) output: u64,
    /// Bytes of new files in the repository, all in all.
    pub(super) disk: u64,
}

impl Git {
    /// The bare repository that all commands work on.
    pub(super) fn repository(&self) -> PathBuf {
        self.directory.join("repository")
    }

    /// Runs `git step arguments` with `input`, and gives back what it prints.
    ///
    /// # Errors
    /// There is no git, it fails, or it needs more than `bounds`.
    pub(super) async fn run(
        &self,
        step: &'static str,
        arguments: &[&str],
        input: Vec<u8>,
        bounds: Bounds,
    ) -> Result<Vec<u8>, RepositoryError> {
        let mut output = Vec::new();
        let each = |piece: &[u8]| {
            output.extend_from_slice(piece);
            Ok(())
        };
        self.read(step, arguments, input, bounds, each).await?;
        Ok(output)
    }

    /// Runs `git step arguments` with `input`, and hands out what it prints as it comes.
    ///
    /// # Errors
    /// As [`Self::run`], or what `each` says, which stops git.
    pub(super) async fn read(
        &self,
        step: &'static str,
        arguments: &[&str],
        input: Vec<u8>,
        bounds: Bounds,
        mut each: impl FnMut(&[u8]) -> Result<(), RepositoryError>,
    ) -> Result<(), RepositoryError> {
        let mut running = Running::start(self.command(step, arguments))?;
        let too_much = |limit, what| RepositoryError::TooLarge {
            place: format!("{}: git {step}", self.url),
            limit,
            what,
        };
        let failed = |reason| RepositoryError::Git { url: self.url.clone(), step, reason };
        let mut printed = 0;
        let each = |piece: io::Result<&[u8]>| {
            let piece = piece.map_err(|error| failed(error.to_string()))?;
            printed += piece.len() as u64;
            if printed > bounds.output {
                return Err(too_much(bounds.output, "bytes of output"));
            }
            each(piece)
        };
        let ended = tokio::select! {
            ended = running.finish(input, each) => ended?,
            () = tokio::time::sleep(bounds.time) => {
                let url = self.url.clone();
                return Err(RepositoryError::GitTimedOut { url, step, bound: bounds.time });
            }
            () = grows_beyond(self.repository(), bounds.disk) => {
                return Err(too_much(bounds.disk, "bytes on disk"));
            }
        };
        let ended = ended.map_err(|error| failed(error.to_string()))?;
        if ended.success { Ok(()) } else { Err(failed(one_line(&ended.complaints))) }
    }

    fn command(&self, step: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command
            .arg("--git-dir")
            .arg(self.repository())
            .arg(step)
            .args(arguments)
            .current_dir(&self.directory)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into()))
            .env("HOME", self.directory.join("home"))
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .env("GIT_CONFIG_GLOBAL", &self.global_config)
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_CONFIG_COUNT", self.settings.len().to_string());
        for (index, (key, value)) in self.settings.iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{index}"), key);
            command.env(format!("GIT_CONFIG_VALUE_{index}"), value);
        }
        command
    }
}

/// A child with all that it started itself; dropped before its end, all of them are killed.
struct Running {
    child: Child,
    group: Option<Pid>,
}

struct Ended {
    success: bool,
    complaints: Vec<u8>,
}

impl Running {
    fn start(mut command: Command) -> Result<Self, RepositoryError> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => RepositoryError::GitMissing,
            _ => RepositoryError::File { path: "git".into(), source: error },
        })?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Ok(Self { child, group })
    }

    /// Waits for the end; what `each` says of a piece of output comes before it.
    async fn finish(
        &mut self,
        input: Vec<u8>,
        each: impl FnMut(io::Result<&[u8]>) -> Result<(), RepositoryError>,
    ) -> Result<io::Result<Ended>, RepositoryError> {
        let stdin = self.child.stdin.take();
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A child that stops reading says why on its other streams.
                let _ = stdin.write_all(&input).await;
            }
            Ok(())
        };
        let stdout = hand_out(self.child.stdout.take(), each);
        let stderr = self.child.stderr.take();
        let stderr = async { Ok(read_bounded(stderr, MAX_COMPLAINTS).await) };
        let ((), (), complaints) = tokio::try_join!(feed, stdout, stderr)?;
        let status = self.child.wait().await;
        self.group = None;
        let ended =
            complaints.and_then(|complaints| Ok(Ended { success: status?.success(), complaints }));
        Ok(ended)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Until it was waited for, no other process can have the same number.
        if let Some(group) = self.group {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Hands out what a stream gives as it comes.
async fn hand_out(
    stream: Option<impl AsyncRead + Unpin>,
    mut each: impl FnMut(io::Result<&[u8]>) -> Result<(), RepositoryError>,
) -> Result<(), RepositoryError> {
    let Some(mut stream) = stream else { return Ok(()) };
    let mut piece = vec![0; PIECE];
    loop {
        match stream.read(&mut piece).await {
            Ok(0) => return Ok(()),
            Ok(read) => each(Ok(&piece[..read]))?,
            Err(error) => return each(Err(error)),
        }
    }
}

/// Reads at most `bound` bytes, and closes the stream then.
async fn read_bounded(stream: Option<impl AsyncRead + Unpin>, bound: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(bound).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// Returns once the packs in `repository` take more than `bound` bytes: git itself has no bound
/// on what it fetches.
fn grows_beyond(repository: PathBuf, bound: u64) -> impl Future<Output = ()> {
    let packs = repository.join("objects/pack");
    async move {
        loop {
            tokio::time::sleep(DISK_CHECK).await;
            if size_of(&packs) > bound {
                return;
            }
        }
    }
}

/// The size of all files in `directory`, not counting directories in it.
pub(super) fn size_of(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}

/// The end of what git complained about, without control characters.
pub(super) fn one_line(complaints: &[u8]) -> String {
    let text = String::from_utf8_lossy(complaints);
    let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || is_deceptive(c)).collect();
    let line = words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    let excess = line.chars().count().saturating_sub(MAX_REASON);
    line.chars().skip(excess).collect()
}

const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
const DISK_CHECK: Duration = Duration::from_millis(500);
const MAX_COMPLAINTS: u64 = 64 * 1024;
const MAX_REASON: usize = 300;
/// So much output is handed out at a time, in bytes.
const PIECE: usize = 64 << 10;
