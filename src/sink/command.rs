//! Alerts to a program: the event as JSON on its standard input, and no shell in between.

use super::{Alert, DeliveryError, one_line};
use rustix::process::{Pid, Signal, kill_process_group};
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Child;

/// A program that takes alerts; it has taken one when it ends with exit code 0.
#[derive(Debug)]
pub(super) struct Command {
    run: Vec<String>,
}

/// A child with all that it started itself; dropped before its end, all of them are killed.
struct Running {
    child: Child,
    group: Option<Pid>,
}

impl Command {
    pub(super) fn new(run: &[String]) -> Self {
        Self { run: run.to_vec() }
    }

    pub(super) async fn deliver(&self, alert: &Alert) -> Result<(), DeliveryError> {
        let program = self.run.first().map(String::as_str).unwrap_or_default();
        let failed = |error: io::Error| DeliveryError::unavailable(format!("{program}: {error}"));
        let mut running = self.start().map_err(failed)?;
        let (status, complaints) =
            running.finish(alert.to_json().to_string()).await.map_err(failed)?;
        if status.success() {
            return Ok(());
        }
        let complaints = one_line(&String::from_utf8_lossy(&complaints));
        let reason = format!("{program} ended with {status}: {complaints}");
        Err(DeliveryError::unavailable(reason.trim_end_matches(": ")))
    }

    fn start(&self) -> io::Result<Running> {
        let mut words = self.run.iter();
        let mut command = tokio::process::Command::new(words.next().map_or("", String::as_str));
        command
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let child = command.spawn()?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Ok(Running { child, group })
    }
}

impl Running {
    /// Feeds it and waits for its end; what it says is read and, but for the first complaints,
    /// forgotten.
    async fn finish(&mut self, input: String) -> io::Result<(ExitStatus, Vec<u8>)> {
        let (stdin, stdout) = (self.child.stdin.take(), self.child.stdout.take());
        let stderr = self.child.stderr.take();
        let feed = async {
            if let Some(mut stdin) = stdin {
                // Who reads no further knows enough.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
        };
        let mut complaints = Vec::new();
        let talk = async {
            let mut silent = Vec::new();
            tokio::join!(feed, read(stdout, &mut silent, 0), read(stderr, &mut complaints, SAID));
        };
        let mut talk = Box::pin(talk);
        let (status, is_over) = tokio::select! {
            status = self.child.wait() => (status?, false),
            () = &mut talk => (self.child.wait().await?, true),
        };
        // Its number may be another process's from now on.
        self.group = None;
        if !is_over {
            // What it left running in the background may hold its streams open for ever.
            let _ = tokio::time::timeout(LAST_WORDS, &mut talk).await;
        }
        drop(talk);
        Ok((status, complaints))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Reads a stream to its end and keeps its first `most` bytes.
async fn read(stream: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>, most: usize) {
    let Some(mut stream) = stream else { return };
    let mut buffer = [0; 4_096];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        let wanted = count.min(most.saturating_sub(kept.len()));
        kept.extend_from_slice(buffer.get(..wanted).unwrap_or_default());
    }
}

const LAST_WORDS: Duration = Duration::from_millis(200);
/// How much of its complaints is kept, in bytes.
const SAID: usize = 4_096;
