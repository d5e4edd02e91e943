//! A long cable: whatever is on it takes its time, and nothing is lost.

use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Another address of a server, which is some milliseconds away.
#[derive(Debug)]
pub struct Distance {
    address: SocketAddr,
    _runtime: Runtime,
}

impl Distance {
    /// Puts `server` at a distance of `round_trip`, opening a connection included, on a line that
    /// carries so many bytes a second in each direction of each connection.
    pub fn to(server: SocketAddr, round_trip: Duration, rate: f64) -> Self {
        let runtime = Runtime::new().expect("a runtime can be made");
        let listener = runtime
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .expect("this machine has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        runtime.spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(async move {
                    // The near end believes that it is connected; it would have waited as long.
                    tokio::time::sleep(round_trip).await;
                    let Ok(far) = TcpStream::connect(server).await else { return };
                    // Nagle would wait once more.
                    let _set = (near.set_nodelay(true), far.set_nodelay(true));
                    let ((from_near, to_near), (from_far, to_far)) =
                        (near.into_split(), far.into_split());
                    tokio::spawn(carry(from_near, to_far, round_trip / 2, rate));
                    carry(from_far, to_near, round_trip / 2, rate).await;
                });
            }
        });
        Self { address, _runtime: runtime }
    }

    /// Where the server is found at that distance.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A rate that holds nothing up.
pub const UNBOUNDED: f64 = f64::INFINITY;

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration, rate: f64) {
    let (cable, mut arriving) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    tokio::spawn(async move {
        while let Some((at, bytes)) = arriving.recv().await {
            tokio::time::sleep_until(at).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
    let mut buffer = vec![0; 256 * 1024];
    let mut free = Instant::now();
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        for part in buffer[..read].chunks(PART) {
            free = free.max(Instant::now()) + Duration::from_secs_f64(part.len() as f64 / rate);
            if cable.send((free + delay, part.to_vec())).is_err() {
                return;
            }
        }
    }
}

/// What is on the line at once, in bytes.
const PART: usize = 64 * 1024;
