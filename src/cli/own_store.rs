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
    let layout = context.layout()?;
    // Only serve begins a store: a misspelt path must not become an empty one.
    verify::reader(&layout).map_err(Failure::Usage)?;
    let runtime = tokio::runtime::Runtime::new().map_err(Failure::failed)?;
    runtime.block_on(async {
        let clock = Clock::system();
        let min_free = context.config.store.min_free.bytes();
        let store = Store::open(layout, min_free, &clock).await.map_err(Failure::usage)?;
        work(store, clock).await
    })
}
