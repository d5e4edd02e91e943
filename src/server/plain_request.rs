//! Plain HTTP where HTTPS is spoken: answered with a sentence instead of an alert that no one can
//! read.

use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Whether what a client sends first is the beginning of an HTTP request; takes nothing of it.
pub(super) async fn begins(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    // A method begins with a letter, and a TLS record with what kind of record it is.
    Ok(stream.peek(&mut first).await? == 1 && first[0].is_ascii_uppercase())
}

/// Says where to ask instead, and hangs up.
pub(super) async fn answer(mut stream: TcpStream, public_url: &str) -> io::Result<()> {
    let body = format!("This port speaks HTTPS: ask for {public_url}/ instead.\n");
    let head = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
         cache-control: no-store\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await?;
    stream.shutdown().await?;
    // What is not read when it is closed would take the answer back.
    let (mut rest, mut nowhere) = (stream.take(MAX_READ), tokio::io::sink());
    let read = tokio::io::copy(&mut rest, &mut nowhere);
    let _ = tokio::time::timeout(LINGER, read).await;
    Ok(())
}

const MAX_READ: u64 = 64 * 1024;
const LINGER: Duration = Duration::from_secs(1);
