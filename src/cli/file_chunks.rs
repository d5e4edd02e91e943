//! A file's bytes on their way to somewhere, read off the reactor.

use bytes::Bytes;
use std::fs::File;
use std::io::{self, Read as _};
use tokio::sync::mpsc;

/// Begins to read a file; `advance` hears of every piece.
pub(super) fn chunks(
    mut file: File,
    advance: impl Fn(u64) + Send + 'static,
) -> mpsc::Receiver<io::Result<Bytes>> {
    let (sender, chunks) = mpsc::channel(AHEAD);
    tokio::task::spawn_blocking(move || {
        loop {
            let mut chunk = vec![0; CHUNK];
            let read = file.read(&mut chunk).map(|length| {
                chunk.truncate(length);
                Bytes::from(chunk)
            });
            let length = read.as_ref().map_or(0, |chunk| chunk.len() as u64);
            if matches!(&read, Ok(chunk) if chunk.is_empty()) {
                return;
            }
            // Whoever hears of an error, or wants no more, reads no further.
            if sender.blocking_send(read).is_err() || length == 0 {
                return;
            }
            advance(length);
        }
    });
    chunks
}

const CHUNK: usize = 256 << 10;
const AHEAD: usize = 4;
