//! A mail server: SMTP (RFC 5321) with STARTTLS (RFC 3207) and AUTH PLAIN (RFC 4616), which keeps
//! every message for the test to read.

use crate::authority::Authority;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// A mail server on a port of this machine, for as long as the test runs.
#[derive(Debug)]
pub struct MailServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

/// A message that it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// `MAIL FROM`, as it was written.
    pub from: String,
    /// Each `RCPT TO`, as it was written.
    pub to: Vec<String>,
    /// Headers and body, with LF at the line ends.
    pub text: String,
    /// Whether it came over TLS.
    pub is_encrypted: bool,
    /// The argument of `AUTH PLAIN`, base64.
    pub login: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    is_plain: bool,
    is_stuck: bool,
    refusals: u32,
    refused: u32,
    taken: Vec<Mail>,
}

trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

impl MailServer {
    pub(crate) fn start(authority: &Arc<Authority>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("this machine has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let tls = Arc::new(Arc::clone(authority).server());
        let state = Arc::default();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (tls, state) = (Arc::clone(&tls), Arc::clone(&shared));
                // Clients hang up as they like.
                std::thread::spawn(move || converse(stream, &tls, &state));
            }
        });
        Self { address, state }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Offers no encryption any more, as whoever stands in between would have it.
    pub fn forget_tls(&self) {
        self.state().is_plain = true;
    }

    /// Says nothing more to whoever has said EHLO, or has it wait no longer.
    pub fn hang(&self, is_stuck: bool) {
        self.state().is_stuck = is_stuck;
    }

    /// Answers the next so many messages with 451, to come back later.
    pub fn refuse(&self, times: u32) {
        self.state().refusals = times;
    }

    /// How many messages it refused.
    pub fn refused(&self) -> u32 {
        self.state().refused
    }

    /// Every message that it took, in order.
    pub fn taken(&self) -> Vec<Mail> {
        self.state().taken.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panicked while it took mail")
    }
}

fn converse(stream: TcpStream, tls: &Arc<ServerConfig>, state: &Mutex<State>) -> io::Result<()> {
    let plain = stream.try_clone()?;
    let mut wire: BufReader<Box<dyn Wire>> = BufReader::new(Box::new(stream));
    let mut is_encrypted = false;
    let (mut from, mut to, mut login) = (String::new(), Vec::new(), None);
    say(&mut wire, "220 mail.example ESMTP")?;
    loop {
        let mut line = String::new();
        if wire.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let line = line.trim_end();
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        match verb.as_str() {
            "EHLO" => {
                while state.lock().is_ok_and(|state| state.is_stuck) {
                    std::thread::sleep(BETWEEN_LOOKS);
                }
                let is_plain = state.lock().map(|state| state.is_plain).unwrap_or_default();
                let offer = if is_encrypted || is_plain { "AUTH PLAIN" } else { "STARTTLS" };
                say(&mut wire, &format!("250-mail.example\r\n250 {offer}"))?;
            }
            "STARTTLS" => {
                say(&mut wire, "220 go on")?;
                let session = ServerConnection::new(Arc::clone(tls)).map_err(io::Error::other)?;
                let stream = StreamOwned::new(session, plain.try_clone()?);
                wire = BufReader::new(Box::new(stream));
                is_encrypted = true;
            }
            "AUTH" => {
                login = line.split(' ').nth(2).map(str::to_owned);
                say(&mut wire, "235 welcome")?;
            }
            "MAIL" => {
                from = argument(line);
                to.clear();
                say(&mut wire, "250 ok")?;
            }
            "RCPT" => {
                to.push(argument(line));
                say(&mut wire, "250 ok")?;
            }
            "DATA" => {
                say(&mut wire, "354 go on")?;
                let text = message(&mut wire)?;
                let (from, to, login) = (from.clone(), to.clone(), login.clone());
                let mail = Mail { from, to, text, is_encrypted, login };
                let mut state = state.lock().expect("no thread panicked while it took mail");
                let answer = match state.refusals.checked_sub(1) {
                    Some(left) => {
                        (state.refusals, state.refused) = (left, state.refused + 1);
                        "451 come back later"
                    }
                    None => {
                        state.taken.push(mail);
                        "250 taken"
                    }
                };
                drop(state);
                say(&mut wire, answer)?;
            }
            "QUIT" => return say(&mut wire, "221 bye"),
            "NOOP" | "RSET" => say(&mut wire, "250 ok")?,
            _ => say(&mut wire, "500 what?")?,
        }
    }
}

fn say(wire: &mut BufReader<Box<dyn Wire>>, line: &str) -> io::Result<()> {
    let wire = wire.get_mut();
    wire.write_all(format!("{line}\r\n").as_bytes())?;
    wire.flush()
}

/// What stands between angle brackets.
fn argument(line: &str) -> String {
    let inner = line.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    inner.map_or(line, |(inner, _)| inner).to_owned()
}

fn message(wire: &mut BufReader<Box<dyn Wire>>) -> io::Result<String> {
    let mut text = String::new();
    loop {
        let mut line = String::new();
        if wire.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end_matches(['\r', '\n']) {
            "." => return Ok(text),
            line => {
                text.push_str(line.strip_prefix('.').unwrap_or(line));
                text.push('\n');
            }
        }
    }
}

const BETWEEN_LOOKS: Duration = Duration::from_millis(20);
