//! `serve`: mirror until stopped.

use super::{Context, Failure, client};
use crate::clock::Clock;
use crate::config::{EXPECTED_ADDRESS, Purpose};
use crate::keeper::Keeper;
use crate::server::{self, Scheme};
use crate::store::Store;
use crate::{sink, supervisor};
use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::IsTerminal as _;
use std::net::{SocketAddr, TcpListener};
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
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // Each fetch holds a thread while it writes and hashes; the others read what the page
        // cache does not have, and more of them would cost memory and win nothing.
        .max_blocking_threads(context.config.upstream.concurrency.get() + READERS)
        .build()
        .map_err(Failure::failed)?;
    runtime.block_on(serve(context, listen))?;
    // What still blocks a thread is work for nobody; it must not hold up the end.
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}

async fn serve(mut context: Context, listen: Vec<SocketAddr>) -> Result<(), Failure> {
    let source = source(&context, listen)?;
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
    tokio::spawn(supervisor::watchdog());
    bound.serve(keeper, clock, source, stop).await.map_err(Failure::failed)
}

/// Reads the configuration once more, so that every later change of a file shows.
fn source(context: &Context, listen: Vec<SocketAddr>) -> Result<server::Source, Failure> {
    let (file, overrides) = (context.file.clone(), context.overrides.clone());
    let load = move |purpose: Purpose| {
        let loaded = overrides.load(file.as_deref(), purpose);
        let mut config = loaded.map_err(|error| error.to_string())?;
        if !listen.is_empty() {
            config.server.listen.clone_from(&listen);
        }
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

/// Every connection is a file: as many as the system lets this process have.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, current = limit.current, "the limit of open files stays");
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

/// Threads for work that blocks, beside those of the fetches.
const READERS: usize = 16;
