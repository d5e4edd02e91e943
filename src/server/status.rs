//! What `status` tells of a running server.

use crate::VERSION;
use crate::clock::Clock;
use crate::keeper::alerts::SinkStatus;
use crate::keeper::recheck::RecheckStatus;
use crate::keeper::verified::Verified;
use crate::keeper::{Exceptions, Keeper};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The state of a running server, or of a store that no server runs on.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// Whether a server runs on the store.
    pub running: bool,
    /// Whether it is stopping: running downloads may end, and nothing new is begun.
    #[serde(default)]
    pub stopping: bool,
    /// The server's version.
    pub version: String,
    /// Where clients reach it; `None` when no server runs.
    #[serde(default)]
    pub url: Option<String>,
    /// When this was told.
    pub at: Timestamp,
    /// The data directory; told on its own machine alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<PathBuf>,
    /// Whether nothing is asked of other machines.
    #[serde(default)]
    pub offline: bool,
    /// Why no token is good, if so.
    #[serde(default)]
    pub tokens: Option<String>,
    /// How the configuration stands; `None` when no server runs.
    #[serde(default)]
    pub configuration: Option<ConfigurationStatus>,
    /// What the last check of the whole store came to, if there was one.
    #[serde(default)]
    pub verified: Option<Verified>,
    /// Why nothing new is kept, if so.
    pub problem: Option<String>,
    /// The ledger's name.
    pub ledger: String,
    /// How many entries the ledger has.
    pub entries: u64,
    /// How many pins the ledger has.
    pub pins: u64,
    /// How many divergences are recorded.
    pub divergences: u64,
    /// How many of them nobody has decided about yet.
    pub open_divergences: u64,
    /// How many first fetches are under way.
    pub fetching: usize,
    /// How rechecks stand; `None` when no server runs, or the catalog can't say.
    pub rechecks: Option<RecheckStatus>,
    /// How the sinks of alerts stand.
    pub sinks: Vec<SinkStatus>,
    /// The repositories, in the order of mirror.toml.
    pub repositories: Vec<RepositoryStatus>,
}

/// The configuration that is in force.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ConfigurationStatus {
    /// Since when.
    pub since: Timestamp,
    /// Why the last change was refused, if it was.
    pub problem: Option<String>,
    /// Keys whose new values hold from the next start on.
    pub at_next_start: Vec<String>,
}

impl Status {
    /// Without what is only for those who run the server: where its files are, and what they say.
    pub(super) fn for_everyone(mut self) -> Self {
        self.store = None;
        if let Some(problem) = self.configuration.as_mut().and_then(|it| it.problem.as_mut()) {
            *problem = "the last change is refused; the server's log says why".to_owned();
        }
        if let Some(tokens) = &mut self.tokens {
            *tokens = "their list can't be read; the server's log says why".to_owned();
        }
        self
    }
}

/// The state of one repository.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RepositoryStatus {
    /// Its name.
    pub name: String,
    /// Where it comes from.
    pub upstream: String,
    /// How many package versions are served; `None` before the first snapshot.
    pub versions: Option<u64>,
    /// The ledger entry of the snapshot that is served.
    pub entry: Option<u64>,
    /// When that snapshot was admitted.
    pub admitted_at: Option<Timestamp>,
    /// When upstream last answered well.
    pub fresh_at: Option<Timestamp>,
    /// Why the last attempt failed, if it did.
    pub problem: Option<String>,
    /// What is not served as upstream has it.
    #[serde(flatten)]
    pub exceptions: Exceptions,
}

/// How everything stands; reads the disk, so it is for a thread that may block.
pub(super) fn of(
    keeper: &Keeper,
    clock: &Clock,
    configuration: ConfigurationStatus,
    url: String,
    tokens: Option<String>,
    rechecks: Option<RecheckStatus>,
) -> Status {
    let store = keeper.store();
    let repositories = keeper.repositories().iter().map(|repository| {
        let (health, served) = (repository.health(), repository.served());
        let snapshot = served.as_ref().map(|served| &served.snapshot);
        // What a bundle brought, no upstream said.
        let answered = snapshot.filter(|snapshot| snapshot.import.is_none());
        RepositoryStatus {
            name: repository.name().to_owned(),
            upstream: repository.settings().upstream.get_ref().to_string(),
            versions: snapshot.map(|snapshot| snapshot.versions),
            entry: served.as_ref().map(|served| served.entry),
            admitted_at: snapshot.map(|snapshot| snapshot.at),
            // What has a snapshot was answered once, maybe before this start.
            fresh_at: health
                .fresh_at
                .max(answered.and(keeper.alerts().fresh_at(repository.name()))),
            problem: health.problem,
            exceptions: health.exceptions,
        }
    });
    Status {
        running: true,
        stopping: keeper.is_stopping(),
        version: VERSION.text.to_owned(),
        url: Some(url),
        at: clock.now(),
        store: Some(store.layout().root().to_owned()),
        offline: keeper.is_offline(),
        tokens,
        configuration: Some(configuration),
        verified: Verified::last(store.layout()),
        problem: store.blobs().problem(),
        ledger: store.log().verifier().name().to_owned(),
        entries: store.log().size().unwrap_or_default(),
        pins: store.lookup(|catalog| catalog.pins()).unwrap_or_default(),
        divergences: store.lookup(|catalog| catalog.divergences()).unwrap_or_default(),
        open_divergences: store.lookup(|catalog| catalog.open_divergences()).unwrap_or_default(),
        fetching: keeper.fills(),
        rechecks,
        sinks: keeper.alerts().status(),
        repositories: repositories.collect(),
    }
}
