//! What a supervisor such as systemd is told, and what it hands over: the sd_notify protocol, the
//! watchdog and socket activation. Without one, nothing happens.

use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;
use sd_notify::NotifyState;
use std::net::TcpListener;
use std::time::Duration;

/// Says that all is well: it serves, or goes on with another configuration.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Says that another configuration is being read.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// Says that running downloads are finished, and nothing else.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Says again and again that it lives, if somebody watches: as long as the reactor, the threads for
/// work that blocks, and whatever `alive` waits for get something done.
pub async fn watchdog(alive: impl AsyncFn()) {
    let Some(patience) = sd_notify::watchdog_enabled() else { return };
    let pause = (patience / 3).max(SHORTEST_PAUSE);
    loop {
        if tokio::task::spawn_blocking(|| ()).await.is_err() {
            return;
        }
        alive().await;
        tell(&[NotifyState::Watchdog]);
        tokio::time::sleep(pause).await;
    }
}

/// The sockets that were bound before this process began, each with its name
/// (`FileDescriptorName=` in systemd.socket).
///
/// # Errors
/// What is no listening TCP socket, in a sentence.
pub fn sockets() -> Result<Vec<(TcpListener, String)>, String> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':').map(str::to_owned);
    let mut given = ListenFd::from_env();
    let mut sockets = Vec::new();
    for place in 0..given.len() {
        let name = names.next().unwrap_or_default();
        match given.take_tcp_listener(place) {
            Ok(Some(listener)) if socket_acceptconn(&listener).unwrap_or(true) => {
                sockets.push((listener, name));
            }
            Ok(Some(_)) => {
                return Err(format!(
                    "socket {place} of the supervisor does not listen: leave Accept= at no, and use \
                     ListenStream= with an address and a port"
                ));
            }
            Ok(None) => {}
            Err(error) => {
                return Err(format!(
                    "socket {place} of the supervisor is no listening TCP socket: {error}: use \
                     ListenStream= with an address and a port"
                ));
            }
        }
    }
    Ok(sockets)
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the supervisor can't be told");
    }
}

const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
