//! One TCP connection out of several addresses.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;

/// Connects to the first of `addresses` that answers, as RFC 8305 does: the next one is tried
/// when one fails or keeps silent for [`STAGGER`], and whoever answers first wins.
///
/// # Errors
/// What the last failing address said, with that address; nothing when `addresses` is empty.
pub(super) async fn dial(
    addresses: &[SocketAddr],
) -> Result<TcpStream, Option<(SocketAddr, io::Error)>> {
    let mut untried = addresses.iter();
    let mut attempts = FuturesUnordered::new();
    let mut failure = None;
    loop {
        attempts.extend(untried.next().map(|address| connect(*address)));
        tokio::select! {
            Some(outcome) = attempts.next() => match outcome {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = Some(error),
            },
            () = tokio::time::sleep(STAGGER), if untried.len() > 0 => {}
            else => return Err(failure),
        }
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream, (SocketAddr, io::Error)> {
    let stream = TcpStream::connect(address).await.map_err(|error| (address, error))?;
    // A request is one small write: holding it back for more gains nothing.
    stream.set_nodelay(true).map_err(|error| (address, error))?;
    Ok(stream)
}

/// RFC 8305, section 5: the recommended delay between two attempts.
const STAGGER: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn dead_address() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
    }

    #[tokio::test]
    async fn a_dead_address_gives_way_to_the_next() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let alive = listener.local_addr().unwrap();
        let stream = dial(&[dead_address().await, dead_address().await, alive]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), alive);
    }

    #[tokio::test]
    async fn nothing_but_dead_addresses_is_an_error_that_names_one() {
        let dead = dead_address().await;
        let (address, error) = dial(&[dead]).await.unwrap_err().unwrap();
        assert_eq!((address, error.kind()), (dead, io::ErrorKind::ConnectionRefused));
        assert!(dial(&[]).await.unwrap_err().is_none());
    }
}
