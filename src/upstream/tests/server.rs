//! A scripted HTTP server: it says exactly what a test tells it to, however wrong.

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// What the server does with one request; then it closes the connection.
#[derive(Clone, Default)]
pub(in crate::upstream) struct Script(Vec<Step>);

#[derive(Clone)]
enum Step {
    Send(Vec<u8>),
    Pause(Duration),
    Repeat(Vec<u8>, Duration),
    Tunnel(SocketAddr),
}

impl Script {
    pub(in crate::upstream) fn send(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.0.push(Step::Send(bytes.into()));
        self
    }

    /// Keeps silent for longer than any test waits.
    pub(in crate::upstream) fn stall(self) -> Self {
        self.pause(Duration::from_secs(60))
    }

    pub(in crate::upstream) fn pause(mut self, time: Duration) -> Self {
        self.0.push(Step::Pause(time));
        self
    }

    /// Sends the same again and again, with a pause in between, for ever.
    pub(in crate::upstream) fn repeat(mut self, bytes: &[u8], pause: Duration) -> Self {
        self.0.push(Step::Repeat(bytes.to_vec(), pause));
        self
    }

    /// Becomes a tunnel to another address.
    pub(in crate::upstream) fn tunnel(mut self, to: SocketAddr) -> Self {
        self.0.push(Step::Tunnel(to));
        self
    }
}

impl<T: AsRef<[u8]> + ?Sized> From<&T> for Script {
    fn from(bytes: &T) -> Self {
        Self::default().send(bytes.as_ref())
    }
}

pub(in crate::upstream) fn ok(body: impl AsRef<[u8]>) -> Script {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    Script::default().send(head).send(body)
}

pub(in crate::upstream) fn status(line: &str) -> Script {
    format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n").as_str().into()
}

pub(in crate::upstream) fn redirect(to: &str) -> Script {
    let head = format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
    head.as_str().into()
}

pub(in crate::upstream) struct TestServer {
    pub(in crate::upstream) address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl TestServer {
    /// Answers each request as `answer` says for its head, which comes in lower case, and after
    /// it the body, if there is one.
    pub(in crate::upstream) async fn start(
        answer: impl Fn(&str) -> Script + Send + Sync + 'static,
    ) -> Self {
        Self::run(None, answer).await
    }

    pub(in crate::upstream) async fn start_tls(
        authority: &TestAuthority,
        names: &[&str],
        answer: impl Fn(&str) -> Script + Send + Sync + 'static,
    ) -> Self {
        Self::run(Some(authority.acceptor(names, &[])), answer).await
    }

    async fn run(
        tls: Option<TlsAcceptor>,
        answer: impl Fn(&str) -> Script + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (answer, seen) = (Arc::new(answer), heads.clone());
        let task = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (answer, seen, tls) = (answer.clone(), seen.clone(), tls.clone());
                tokio::spawn(async move {
                    // A client that hangs up early is none of the server's business.
                    match tls {
                        Some(tls) => match tls.accept(tcp).await {
                            Ok(stream) => serve(stream, &*answer, &seen).await,
                            Err(_) => None,
                        },
                        None => serve(tcp, &*answer, &seen).await,
                    }
                });
            }
        });
        Self { address, heads, task }
    }

    pub(in crate::upstream) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The heads of all requests so far, in lower case.
    pub(in crate::upstream) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: &(dyn Fn(&str) -> Script + Send + Sync),
    seen: &Mutex<Vec<String>>,
) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let mut head = String::from_utf8(head).ok()?.to_ascii_lowercase();
    let length = head.split("\r\ncontent-length: ").nth(1).and_then(|rest| rest.lines().next());
    if let Some(length) = length {
        let mut body = vec![0; length.parse().ok()?];
        stream.read_exact(&mut body).await.ok()?;
        head.push_str(&String::from_utf8(body).ok()?);
    }
    seen.lock().unwrap().push(head.clone());
    for step in answer(&head).0 {
        match step {
            Step::Send(bytes) => stream.write_all(&bytes).await.ok()?,
            Step::Pause(time) => tokio::time::sleep(time).await,
            Step::Repeat(bytes, pause) => loop {
                stream.write_all(&bytes).await.ok()?;
                stream.flush().await.ok()?;
                tokio::time::sleep(pause).await;
            },
            Step::Tunnel(to) => {
                let mut to = TcpStream::connect(to).await.ok()?;
                tokio::io::copy_bidirectional(&mut stream, &mut to).await.ok()?;
            }
        }
        stream.flush().await.ok()?;
    }
    stream.shutdown().await.ok()
}

/// A certificate authority of the test's own.
pub(in crate::upstream) struct TestAuthority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: tempfile::TempDir,
}

impl TestAuthority {
    pub(in crate::upstream) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, directory }
    }

    pub(in crate::upstream) fn pem_file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    fn acceptor(&self, names: &[&str], protocols: &[&str]) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config).into()
    }
}

/// Serves `body` over HTTP/2 only.
pub(in crate::upstream) async fn start_h2(
    authority: &TestAuthority,
    name: &str,
    body: &'static str,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = authority.acceptor(&[name], &["h2"]);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(tcp).await else { continue };
            let service = service_fn(move |_| async move {
                Ok::<_, Infallible>(http::Response::new(body.to_owned()))
            });
            let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service);
            tokio::spawn(serving);
        }
    });
    address
}
