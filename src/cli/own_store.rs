//! The store of a command that works while no server runs: the command then owns it.

use super::{Context, Failure};
use crate::clock::Clock;
use crate::keeper::verify;
use crate::store::Store;

/// Takes the store, which must be there, for as long as `work` takes.
pub(super) fn with_store<T>(
    context: &Context,
    work: impl AsyncFnOnce(Store, Clock) -> Result<T, Failure>,
) -> Result<T, Failure> {
    // A misspelt path must not become an empty store.
    verify::reader(&context.layout()?).map_err(Failure::Usage)?;
    with_store_or_new(context, work)
}

/// The same, also with a store that begins here: for commands that fill it.
pub(super) fn with_store_or_new<T>(
    context: &Context,
    work: impl AsyncFnOnce(Store, Clock) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let layout = context.layout()?;
    let runtime = tokio::runtime::Runtime::new().map_err(Failure::failed)?;
    runtime.block_on(async {
        let clock = Clock::system();
        let min_free = context.config.store.min_free.bytes();
        let store = Store::open(layout, min_free, &clock).await.map_err(Failure::usage)?;
        work(store, clock).await
    })
}
