//! A client that sends exactly the bytes it is given, over TLS, and reads HTTP/1.1 answers.

use crate::ca::Identity;
use crate::http2;
use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned,
    SupportedProtocolVersion,
};
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Connects to one server, trusting one certificate authority.
#[derive(Clone, Debug)]
pub struct Client {
    address: SocketAddr,
    roots: RootCertStore,
    config: Arc<ClientConfig>,
    receive_buffer: Option<usize>,
    patience: Duration,
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
}

/// An answer of which the body is still to be read.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    head: Vec<(String, String)>,
    framing: Framing,
    connection: Connection,
}

/// How much of a body is left.
#[derive(Debug)]
enum Framing {
    /// So many bytes.
    Length(u64),
    /// Chunks; so many bytes of the current one.
    Chunk(u64),
}

impl Client {
    /// For the server at `address`, whose certificate `ca` vouches for.
    pub fn new(address: SocketAddr, ca: &Path) -> Self {
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_file(ca).expect("the authority is a PEM file");
        roots.add(certificate).expect("the authority's certificate is one");
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider knows TLS 1.2 and 1.3")
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        Self { address, roots, config: Arc::new(config), receive_buffer: None, patience: PATIENCE }
    }

    /// The same, waiting so long for whatever is to come.
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// The same with little room for what arrives, so that a test that stops reading is noticed
    /// at the other side.
    pub fn with_little_room(self) -> Self {
        Self { receive_buffer: Some(LITTLE_ROOM), ..self }
    }

    /// The same with a full handshake for each connection, agreed on as most clients today do.
    pub fn without_resumption(self) -> Self {
        let mut provider = aws_lc_rs::default_provider();
        provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .expect("the provider knows TLS 1.2 and 1.3")
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        Self { config: Arc::new(config), ..self }
    }

    /// The same, showing a certificate, with that version of TLS alone. Later connections resume
    /// the session of the first one.
    pub fn showing(self, identity: &Identity, version: &'static SupportedProtocolVersion) -> Self {
        let chain = CertificateDer::pem_slice_iter(identity.cert.as_bytes()).collect();
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes());
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[version])
            .expect("the provider knows TLS 1.2 and 1.3")
            .with_root_certificates(self.roots.clone())
            .with_client_auth_cert(
                Result::expect(chain, "certificates in PEM form"),
                key.expect("a key in PEM form"),
            )
            .expect("they belong together");
        Self { config: Arc::new(config), ..self }
    }

    /// A new connection.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn connect(&self) -> io::Result<Connection> {
        let stream = self.dial(Arc::clone(&self.config))?;
        Ok(Connection { stream: BufReader::new(stream) })
    }

    /// A new connection that speaks HTTP/2.
    ///
    /// # Errors
    /// When nobody listens, or the connection ends at once.
    pub fn http2(&self) -> io::Result<http2::Connection> {
        let mut connection = self.http2_without_preface()?;
        connection.write(&[http2::PREFACE, &http2::settings()].concat())?;
        Ok(connection)
    }

    /// The same before the client has said anything.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn http2_without_preface(&self) -> io::Result<http2::Connection> {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(http2::Connection::new(self.dial(Arc::new(config))?))
    }

    /// Sends `request` as it is and reads the answer's head.
    ///
    /// # Errors
    /// When the connection ends before that.
    pub fn send(&self, request: &[u8]) -> io::Result<Answer> {
        self.connect()?.send(request)
    }

    /// A GET of `path`.
    ///
    /// # Errors
    /// When the connection ends before there is an answer.
    pub fn get(&self, path: &str) -> io::Result<Answer> {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        self.send(request.as_bytes())
    }

    fn dial(
        &self,
        config: Arc<ClientConfig>,
    ) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
        let name = ServerName::try_from("localhost").expect("localhost is a name");
        let socket = TcpStream::connect(self.address)?;
        if let Some(bytes) = self.receive_buffer {
            set_socket_recv_buffer_size(&socket, bytes)?;
        }
        socket.set_read_timeout(Some(self.patience))?;
        socket.set_write_timeout(Some(self.patience))?;
        let tls = ClientConnection::new(config, name).map_err(io::Error::other)?;
        Ok(StreamOwned::new(tls, socket))
    }
}

impl Connection {
    /// Sends `request` as it is and reads the answer's head.
    ///
    /// # Errors
    /// When the connection ends before that.
    pub fn send(mut self, request: &[u8]) -> io::Result<Answer> {
        // A server may refuse in the middle of a long request: its answer is what counts.
        let sent = self.write(request);
        match self.answer() {
            Err(error) => Err(sent.err().unwrap_or(error)),
            answer => answer,
        }
    }

    /// Sends some bytes.
    ///
    /// # Errors
    /// When the other side is gone.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let stream = self.stream.get_mut();
        stream.write_all(bytes)?;
        stream.flush()
    }

    /// Whether it goes on with the session of one before.
    pub fn is_resumed(&self) -> bool {
        self.stream.get_ref().conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Whether the other side is still there, after so long of waiting for a word of it at most.
    pub fn is_open(&mut self, wait: Duration) -> bool {
        is_open(&mut self.stream, wait)
    }

    fn answer(mut self) -> io::Result<Answer> {
        let line = self.line()?;
        let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status =
            status.ok_or_else(|| io::Error::other(format!("not a status line: {line}")))?;
        let mut head = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            head.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let value = |name| head.iter().find(|(key, _)| key == name).map(|(_, value)| value);
        let framing = match value("content-length") {
            Some(length) => Framing::Length(length.parse().map_err(io::Error::other)?),
            None if value("transfer-encoding").is_some() => Framing::Chunk(0),
            None if status == 204 || status == 304 => Framing::Length(0),
            None => return Err(io::Error::other("a body that only the connection's end delimits")),
        };
        Ok(Answer { status, head, framing, connection: self })
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        if !line.ends_with('\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Answer {
    /// The first header of that name, which is lower-case here.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The whole body.
    ///
    /// # Errors
    /// When it is cut short.
    pub fn body(self) -> io::Result<Vec<u8>> {
        self.finish().map(|(body, _)| body)
    }

    /// The whole body, and the connection for the next request.
    ///
    /// # Errors
    /// When it is cut short.
    pub fn finish(mut self) -> io::Result<(Vec<u8>, Connection)> {
        let mut body = Vec::new();
        self.read_to_end(&mut body)?;
        Ok((body, self.connection))
    }

    /// What is left of the current piece, with the next one begun when that was nothing.
    fn left(&mut self) -> io::Result<u64> {
        match self.framing {
            Framing::Length(left) => Ok(left),
            Framing::Chunk(0) => {
                let line = self.connection.line()?;
                let size = u64::from_str_radix(&line, 16).map_err(io::Error::other)?;
                if size == 0 {
                    self.connection.line()?;
                    self.framing = Framing::Length(0);
                } else {
                    self.framing = Framing::Chunk(size);
                }
                Ok(size)
            }
            Framing::Chunk(left) => Ok(left),
        }
    }
}

impl Read for Answer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left()?;
        if left == 0 {
            return Ok(0);
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.connection.stream.read(&mut buffer[..most])?;
        if read == 0 && most != 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match &mut self.framing {
            Framing::Length(left) => *left -= read as u64,
            Framing::Chunk(left) => {
                *left -= read as u64;
                if *left == 0 {
                    self.connection.line()?;
                }
            }
        }
        Ok(read)
    }
}

/// Reads what comes within `wait`, to no use; whether there may come more.
pub(crate) fn is_open(
    stream: &mut BufReader<StreamOwned<ClientConnection, TcpStream>>,
    wait: Duration,
) -> bool {
    let socket = &stream.get_ref().sock;
    socket.set_read_timeout(Some(wait)).expect("a socket has a timeout");
    match stream.read(&mut [0; 16 * 1024]) {
        Ok(read) => read > 0,
        Err(error) => matches!(error.kind(), io::ErrorKind::WouldBlock),
    }
}

/// Whether more comes within so long.
pub(crate) fn has_more(
    stream: &mut BufReader<StreamOwned<ClientConnection, TcpStream>>,
    wait: Duration,
) -> io::Result<bool> {
    let set = |stream: &BufReader<StreamOwned<ClientConnection, TcpStream>>, wait| {
        stream.get_ref().sock.set_read_timeout(Some(wait))
    };
    set(stream, wait)?;
    let more = match stream.fill_buf() {
        Ok([]) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    };
    set(stream, PATIENCE)?;
    more
}

const LITTLE_ROOM: usize = 16 * 1024;
const PATIENCE: Duration = Duration::from_secs(60);
