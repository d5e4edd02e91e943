//! `serve`: mirror until stopped.

use super::{Context, Failure, client};
use crate::clock::Clock;
use crate::config::{self, EXPECTED_ADDRESS, Purpose};
use crate::keeper::Keeper;
use crate::server::{self, Scheme};
use crate::store::Store;
use crate::{sink, supervisor};
use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::IsTerminal as _;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What `serve` can be told.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Address that speaks HTTPS, in place of server.listen; may be given several times
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address)]
    listen: Vec<SocketAddr>,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("expected {EXPECTED_ADDRESS}"))
}

pub(super) fn run(mut context: Context, arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments { listen } = arguments;
    if !listen.is_empty() {
        context.config.server.listen.clone_from(&listen);
    }
    let room = Room::beside(&context.config.upstream);
    room.warn(&context.config.server);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // Connections have threads of their own.
        .worker_threads(processors().min(MOST_WORKERS))
        // Each fetch holds a thread while it writes and hashes; more of the others would cost memory
        // and win nothing.
        .max_blocking_threads(context.config.upstream.concurrency.get() + READERS)
        .build()
        .map_err(Failure::failed)?;
    runtime.block_on(serve(context, listen, room))?;
    // What still blocks a thread is work for nobody; it must not hold up the end.
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}

async fn serve(mut context: Context, listen: Vec<SocketAddr>, room: Room) -> Result<(), Failure> {
    let source = source(&context, listen, room)?;
    context.config.clone_from(source.config());
    let (config, clock) = (&context.config, Clock::system());
    let layout = context.layout()?;
    let min_free = config.store.min_free.bytes();
    for path in sink::exposed_secrets(config) {
        tracing::warn!(path, "every user of this machine may read this secret: chmod o-r it");
    }
    let store = Store::open(layout.clone(), min_free, &clock).await.map_err(Failure::usage)?;
    let bound = server::bind(config, &layout.tls(), given()?).map_err(Failure::usage)?;
    let keeper = Keeper::open(config, store, clock.clone()).map_err(Failure::usage)?;
    if std::io::stdout().is_terminal() {
        client::greet(&context, bound.public_url(), bound.is_self_made(), &layout);
    } else {
        let url = bound.public_url();
        tracing::info!(url, "opam-keep client prints what to paste so that opam uses this mirror");
    }
    let stop = stop_on_signal()?;
    bound.serve(keeper, clock, source, stop).await.map_err(Failure::failed)
}

/// Reads the configuration once more, so that every later change of a file shows.
fn source(
    context: &Context,
    listen: Vec<SocketAddr>,
    room: Room,
) -> Result<server::Source, Failure> {
    let (file, overrides) = (context.file.clone(), context.overrides.clone());
    let load = move |purpose: Purpose| {
        let loaded = overrides.load(file.as_deref(), purpose);
        let mut config = loaded.map_err(|error| error.to_string())?;
        if !listen.is_empty() {
            config.server.listen.clone_from(&listen);
        }
        room.bound(&mut config.server);
        Ok(config)
    };
    server::Source::read(context.file.clone(), Arc::new(load)).map_err(Failure::Usage)
}

/// The sockets that a supervisor bound: those that are named `http` speak plain HTTP.
fn given() -> Result<Vec<(TcpListener, Scheme)>, Failure> {
    let scheme = |name: &str| if name == "http" { Scheme::Http } else { Scheme::Https };
    let sockets = supervisor::sockets().map_err(Failure::Usage)?;
    Ok(sockets.into_iter().map(|(listener, name)| (listener, scheme(&name))).collect())
}

/// How many files this process may have open, and how many of them connections.
///
/// Each connection is one. Without any left, nothing could be fetched, kept or read.
#[derive(Clone, Copy, Debug)]
struct Room {
    /// Whatever there is, where the system sets no limit.
    files: u64,
    connections: NonZeroUsize,
}

impl Room {
    /// As many files as the system lets this process have, but for those of the fetches and the
    /// store.
    fn beside(upstream: &config::Upstream) -> Self {
        Self::of(raised_file_limit(), upstream.concurrency, processors())
    }

    fn of(files: u64, concurrency: NonZeroUsize, processors: usize) -> Self {
        let all = usize::try_from(files).unwrap_or(usize::MAX);
        let own = OWN_FILES + FILES_BY_PROCESSOR * processors;
        let reserve = concurrency.get().saturating_mul(FILES_BY_FETCH).saturating_add(own);
        // Where there are very few, both get less.
        let connections = all.saturating_sub(reserve).max(all / 4);
        Self { files, connections: NonZeroUsize::new(connections).unwrap_or(NonZeroUsize::MIN) }
    }

    fn bound(self, server: &mut config::Server) {
        server.max_connections = server.max_connections.min(self.connections);
    }

    fn warn(self, server: &config::Server) {
        if server.max_connections > self.connections {
            tracing::warn!(
                file_limit = self.files,
                max_connections = self.connections,
                configured = server.max_connections,
                "fewer connections than server.max_connections: the limit of open files is too low"
            );
        }
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The limit of open files, once it is as high as this process may set it.
fn raised_file_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current.unwrap_or(u64::MAX),
        Err(error) => {
            tracing::warn!(%error, current = limit.current, "the limit of open files stays");
            limit.current.unwrap_or(u64::MAX)
        }
    }
}

/// Cancelled by the first SIGTERM or SIGINT; a second one ends the process at once.
fn stop_on_signal() -> Result<CancellationToken, Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::failed)?;
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        for _ in 0..2 {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if stopping.is_cancelled() {
                tracing::warn!("stopped at once");
                std::process::exit(1);
            }
            stopping.cancel();
        }
    });
    Ok(stop)
}

/// A connection, the file that comes, and what it is copied to or compared with.
const FILES_BY_FETCH: usize = 4;
/// Those of the store and the listeners, with some to spare for what is served.
const OWN_FILES: usize = 64;
/// Those of each thread that serves connections.
const FILES_BY_PROCESSOR: usize = 4;
/// Threads for work that blocks, beside those of the fetches.
const READERS: usize = 32;
/// Most threads for what goes on beside connections, which is little but waiting.
const MOST_WORKERS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_everything_else() {
        let of = |files, concurrency| {
            let room = Room::of(files, NonZeroUsize::new(concurrency).unwrap(), 2);
            room.connections.get()
        };
        assert_eq!(of(1_024, 24), 1_024 - (4 * 24 + 64 + 4 * 2));
        assert_eq!(of(u64::MAX, 24), usize::MAX - (4 * 24 + 64 + 4 * 2));
        assert_eq!((of(100, 24), of(3, 1)), (25, 1), "however few there are");
        let mut server = config::Server::default();
        let configured = server.max_connections;
        Room::of(1 << 20, NonZeroUsize::MIN, 2).bound(&mut server);
        assert_eq!(server.max_connections, configured);
        Room::of(1_000, NonZeroUsize::MIN, 64).bound(&mut server);
        assert_eq!(server.max_connections.get(), 1_000 - (4 + 64 + 4 * 64));
    }
}
