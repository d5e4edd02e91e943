//! The ledger, as C2SP tlog-tiles lays it out: checkpoint, tiles and entry bundles.

use super::Server;
use super::answer::{self, TEXT};
use super::body::Body;
use crate::ledger::tile::TilePath;
use crate::places::Places;
use crate::store::log::LogError;
use bytes::Bytes;
use http::{Response, StatusCode};

/// The signed head; asked for again each time.
pub(super) async fn checkpoint(server: &Server) -> Response<Body> {
    let log = server.keeper.store().log().clone();
    match blocking(move || log.checkpoint()).await {
        Ok(Some((_, bytes))) => answer::plain(bytes.into(), TEXT, "no-cache"),
        Ok(None) => answer::message(StatusCode::NOT_FOUND, "the ledger has no entry yet"),
        Err(error) => failed(&error),
    }
}

/// The ledger's public key, as a signed-note verifier key.
pub(super) fn key(server: &Server) -> Response<Body> {
    let key = format!("{}\n", server.keeper.store().log().verifier());
    answer::plain(Bytes::from(key), TEXT, "max-age=3600")
}

/// A tile or entry bundle; neither ever changes.
pub(super) async fn tile(server: &Server, path: TilePath) -> Response<Body> {
    let log = server.keeper.store().log().clone();
    match blocking(move || log.tile(&path)).await {
        Ok(Some(bytes)) => answer::plain(bytes.into(), "application/octet-stream", IMMUTABLE),
        Ok(None) => answer::message(StatusCode::NOT_FOUND, "the ledger has no such tile"),
        Err(error) => failed(&error),
    }
}

fn failed(error: &LogError) -> Response<Body> {
    tracing::error!(%error, "the ledger can't be served");
    let text = "the ledger can't be read; see the server's log";
    answer::message(StatusCode::INTERNAL_SERVER_ERROR, text)
}

async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, LogError> {
    READING.work(read).await.unwrap_or_else(|error| {
        let source = std::io::Error::other(error);
        Err(LogError::Io { path: "ledger".to_owned(), source })
    })
}

/// For all that is read of the ledger for one answer.
pub(super) static READING: Places = Places::new(4);

const IMMUTABLE: &str = "public, max-age=31536000, immutable";
