//! A client that sends HTTP/2 frames as a test likes, well-mannered or not, and reads what comes
//! back (RFC 9113).

use crate::raw;
use rustls::{ClientConnection, StreamOwned};
use std::io::{self, BufReader, Read, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// One connection.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
}

/// What the server sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The head of an answer on the stream; its status, if it is one of the usual ones.
    Head(u32, Option<u16>),
    /// Bytes of a body, and whether they are its last.
    Data(Vec<u8>, bool),
    /// A stream is over, with an error code.
    Reset(u32),
    /// The connection is over, with an error code.
    GoAway(u32),
    /// Anything else, by its type.
    Other(u8),
}

/// A body that is read no faster than its test reads it: the server never has more than one
/// window of it under way.
#[derive(Debug)]
pub struct Download {
    connection: Connection,
    chunk: io::Cursor<Vec<u8>>,
    ended: bool,
}

impl Connection {
    pub(crate) fn new(stream: StreamOwned<ClientConnection, TcpStream>) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    /// Sends some bytes: frames, most likely.
    ///
    /// # Errors
    /// When the other side is gone, or takes nothing for as long as writing may wait.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let stream = self.stream.get_mut();
        stream.write_all(bytes)?;
        stream.flush()
    }

    /// Whether the other side is still there, after so long of waiting for a word of it at most.
    pub fn is_open(&mut self, wait: Duration) -> bool {
        raw::is_open(&mut self.stream, wait)
    }

    /// Waits no longer than so long for the other side to take what is written.
    pub fn write_within(&self, limit: Duration) {
        let socket = &self.stream.get_ref().sock;
        socket.set_write_timeout(Some(limit)).expect("a socket has a timeout");
    }

    /// Reads what comes within so long of waiting for more, and answers pings.
    ///
    /// # Errors
    /// When the connection ends.
    pub fn stay(&mut self, wait: Duration) -> io::Result<()> {
        while raw::has_more(&mut self.stream, wait)? {
            let (kind, flags, _, payload) = self.next()?;
            if kind == PING && flags & ACK == 0 {
                self.write(&frame(PING, ACK, 0, &payload))?;
            }
        }
        Ok(())
    }

    /// The type, the flags, the stream and the payload of the next frame.
    fn next(&mut self) -> io::Result<(u8, u8, [u8; 4], Vec<u8>)> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head)?;
        let [a, b, c, kind, flags, id @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.stream.read_exact(&mut payload)?;
        Ok((kind, flags, id, payload))
    }

    /// The next frame.
    ///
    /// # Errors
    /// When the connection ends.
    pub fn frame(&mut self) -> io::Result<Frame> {
        let (kind, flags, id, payload) = self.next()?;
        let code = |at: usize| {
            let bytes = payload.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map(u32::from_be_bytes).ok_or(io::Error::from(io::ErrorKind::InvalidData))
        };
        Ok(match kind {
            DATA => Frame::Data(payload, flags & END_STREAM != 0),
            HEADERS => Frame::Head(u32::from_be_bytes(id), status(&payload)),
            RST_STREAM => Frame::Reset(code(0)?),
            GOAWAY => Frame::GoAway(code(4)?),
            other => Frame::Other(other),
        })
    }

    /// The error code with which the server ends the connection, whatever it sends before.
    ///
    /// # Errors
    /// When the connection ends without one.
    pub fn go_away(&mut self) -> io::Result<u32> {
        loop {
            if let Frame::GoAway(code) = self.frame()? {
                return Ok(code);
            }
        }
    }

    /// Asks for `path` and takes the body in as it is read; the answer must be a 200.
    ///
    /// # Errors
    /// When there is another answer or none.
    pub fn download(mut self, path: &str) -> io::Result<Download> {
        self.write(&get(1, path))?;
        loop {
            match self.frame()? {
                Frame::Head(_, Some(200)) => break,
                Frame::Other(_) => {}
                other => return Err(io::Error::other(format!("not an answer: {other:?}"))),
            }
        }
        Ok(Download { connection: self, chunk: io::Cursor::default(), ended: false })
    }
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.chunk.read(buffer)?;
            if read > 0 || self.ended || buffer.is_empty() {
                return Ok(read);
            }
            match self.connection.frame()? {
                Frame::Data(bytes, last) => {
                    self.ended = last;
                    let more = u32::try_from(bytes.len()).expect("a frame is small");
                    if more > 0 && !last {
                        let updates = [0, 1].map(|stream| window_update(stream, more));
                        self.connection.write(&updates.concat())?;
                    }
                    self.chunk = io::Cursor::new(bytes);
                }
                Frame::Other(_) => {}
                over => return Err(io::Error::other(format!("cut short: {over:?}"))),
            }
        }
    }
}

/// A whole request for `path`, as one frame.
pub fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &request(path))
}

/// A request for `path` that is to be followed by more headers.
pub fn get_and_more_headers(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_STREAM, stream, &request(path))
}

/// One more header for such a request, and not the last.
pub fn one_more_header(stream: u32, name: &str, value: &str) -> Vec<u8> {
    frame(CONTINUATION, 0, stream, &field(name, value))
}

/// A header field, or what is none, not indexed and with its name as it is.
pub fn field(name: &str, value: &str) -> Vec<u8> {
    [&[0x00], &*text(name), &*text(value)].concat()
}

/// The client is not interested any more.
pub fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
}

/// A question that wants an answer.
pub fn ping() -> Vec<u8> {
    frame(PING, 0, 0, &[0; 8])
}

/// Settings that change nothing and want to be acknowledged.
pub fn settings() -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[])
}

/// Room for so many bytes of each answer to begin with.
pub fn initial_window(room: u32) -> Vec<u8> {
    let setting = [&4_u16.to_be_bytes()[..], &room.to_be_bytes()].concat();
    frame(SETTINGS, 0, 0, &setting)
}

/// Room for so many bytes more.
pub fn window_update(stream: u32, more: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
}

/// A frame of whatever type, on whatever stream, right or wrong.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame is small");
    let [_, length @ ..] = length.to_be_bytes();
    [&length[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The fields of a GET, none of them indexed (RFC 7541, section 6.2.2, names by appendix A).
pub fn request(path: &str) -> Vec<u8> {
    [&[METHOD_GET, SCHEME_HTTPS, PATH], &*text(path), &[AUTHORITY], &*text("localhost")].concat()
}

/// A string without Huffman's code (RFC 7541, sections 5.1 and 5.2).
pub fn text(text: &str) -> Vec<u8> {
    let mut length = Vec::new();
    match text.len().checked_sub(127) {
        None => length.push(text.len() as u8),
        Some(mut more) => {
            length.push(127);
            while more >= 128 {
                length.push((more % 128) as u8 | 128);
                more /= 128;
            }
            length.push(more as u8);
        }
    }
    [&length, text.as_bytes()].concat()
}

/// Statuses of the static table (RFC 7541, appendix A); servers put them first.
fn status(fields: &[u8]) -> Option<u16> {
    match fields.first()? {
        0x88 => Some(200),
        0x8d => Some(404),
        _ => None,
    }
}

/// What a client begins with, before its settings.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A type of frame: bytes of a body (section 6.1).
pub const DATA: u8 = 0;
/// A type of frame: fields, at least the first of them (section 6.2).
pub const HEADERS: u8 = 1;
/// A type of frame: whose turn it is, as older clients say it (section 6.3).
pub const PRIORITY: u8 = 2;
/// A type of frame: the end of a stream (section 6.4).
pub const RST_STREAM: u8 = 3;
/// A type of frame: what the sender wants (section 6.5).
pub const SETTINGS: u8 = 4;
/// A type of frame: a request that the server makes up (section 6.6).
pub const PUSH_PROMISE: u8 = 5;
/// A type of frame: a question that wants an answer (section 6.7).
pub const PING: u8 = 6;
/// A type of frame: the end of a connection (section 6.8).
pub const GOAWAY: u8 = 7;
/// A type of frame: room for more (section 6.9).
pub const WINDOW_UPDATE: u8 = 8;
/// A type of frame: more fields (section 6.10).
pub const CONTINUATION: u8 = 9;

/// A flag: settings, or a ping, are answered.
pub const ACK: u8 = 1;
/// A flag: nothing follows on this stream.
pub const END_STREAM: u8 = 1;
/// A flag: no fields follow.
pub const END_HEADERS: u8 = 4;
/// A flag: there is padding.
pub const PADDED: u8 = 8;

const CANCEL: u32 = 8;

const AUTHORITY: u8 = 0x01;
const METHOD_GET: u8 = 0x82;
const PATH: u8 = 0x04;
const SCHEME_HTTPS: u8 = 0x87;
