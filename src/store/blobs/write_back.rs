//! Bytes go on to disk while more of them are written, so that whoever makes them durable waits for
//! the last ones alone.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

/// A file's bytes on their way to disk.
#[derive(Debug, Default)]
pub(super) struct WriteBack {
    /// How many there were when the last of them were sent.
    sent: u64,
    running: Option<JoinHandle<io::Result<()>>>,
}

impl WriteBack {
    /// Sends what the file has, of which so many bytes are written by now, unless that is hardly
    /// more than before or the last ones are still on their way.
    ///
    /// # Errors
    /// When the last ones did not arrive.
    pub(super) fn written(&mut self, file: &Arc<File>, size: u64) -> io::Result<()> {
        if size < self.sent + EVERY {
            return Ok(());
        }
        if let Some(ended) = self.running.take_if(|running| running.is_finished()) {
            outcome(ended)?;
        }
        if self.running.is_none() {
            let file = Arc::clone(file);
            let thread = std::thread::Builder::new().name("write-back".to_owned());
            // Without a thread they are all sent at the end.
            self.running = thread.spawn(move || file.sync_data()).ok();
            self.sent = size;
        }
        Ok(())
    }

    /// Waits for what is on its way: a failure is told once only, to whoever asks first.
    ///
    /// # Errors
    /// When it did not arrive.
    pub(super) fn end(mut self) -> io::Result<()> {
        self.running.take().map_or(Ok(()), outcome)
    }
}

fn outcome(ended: JoinHandle<io::Result<()>>) -> io::Result<()> {
    ended.join().unwrap_or_else(|_| Err(io::Error::other("writing back panicked")))
}

/// How many bytes are worth being sent.
const EVERY: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;

    #[test]
    fn what_does_not_arrive_is_told() {
        // Nothing can be sent to a pipe's disk.
        let (_reader, writer) = io::pipe().unwrap();
        let file = Arc::new(File::from(OwnedFd::from(writer)));
        let mut write_back = WriteBack::default();
        write_back.written(&file, EVERY - 1).unwrap();
        assert!(write_back.running.is_none());
        write_back.written(&file, EVERY).unwrap();
        assert!(write_back.end().is_err());

        let mut write_back = WriteBack::default();
        let told = (1..).map(|size| write_back.written(&file, size * EVERY)).find(Result::is_err);
        assert!(told.is_some());

        let mut write_back = WriteBack::default();
        write_back.written(&Arc::new(tempfile::tempfile().unwrap()), EVERY).unwrap();
        write_back.end().unwrap();
    }
}
