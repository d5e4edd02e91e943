//! What a Prometheus scrapes: counters that move as things happen, and gauges that are read when
//! somebody asks. Every series is there from the start.

use super::Server;
use super::answer;
use super::body::Body;
use super::route::Route;
use super::status::Status;
use crate::VERSION;
use crate::keeper::Keeper;
use crate::keeper::verified::Verified;
use crate::ledger::entry::{DivergenceKind, DivergenceState, Outcome};
use bytes::Bytes;
use http::{Response, StatusCode};
use jiff::Timestamp;
use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// All metrics of a server.
pub(super) struct Metrics {
    registry: Registry,
    /// By route and status, in the order of [`Route::ALL`] and [`STATUSES`].
    requests: Vec<Vec<IntCounter>>,
    bytes: Vec<IntCounter>,
    seconds: Vec<Histogram>,
    unfilled: IntCounterVec,
    gauges: Gauges,
    /// The last scrape: many that come at once get the same.
    scraped: tokio::sync::Mutex<Option<(Instant, Bytes)>>,
}

/// What is read when somebody asks.
struct Gauges {
    connections: IntGauge,
    fetching: IntGauge,
    ledger_entries: IntGauge,
    pins: IntGauge,
    divergences: IntGaugeVec,
    index_served: IntGaugeVec,
    index_age: IntGaugeVec,
    index_versions: IntGaugeVec,
    index_held: IntGaugeVec,
    index_refused: IntGaugeVec,
    rechecks: IntCounterVec,
    recheck_urls: IntGaugeVec,
    recheck_bytes: IntCounter,
    recheck_due: IntGauge,
    recheck_lag: IntGauge,
    store_blobs: IntGauge,
    store_bytes: IntGauge,
    store_free: IntGauge,
    verified_at: IntGauge,
    verified_problems: IntGauge,
    verified_blobs: IntGauge,
    alerts_queued: IntGaugeVec,
    alerts_delivered: IntCounterVec,
    alerts_given_up: IntCounterVec,
    alerts_failures: IntGaugeVec,
    ready: IntGaugeVec,
    configuration_refused: IntGauge,
    certificate_expiry: IntGauge,
}

impl Metrics {
    pub(super) fn new(keeper: &Keeper) -> Self {
        let registry = Registry::new();
        let requests = register(
            &registry,
            counters(
                "opam_keep_http_requests_total",
                "Requests by what was asked for and how they were answered",
                &["route", "status"],
            ),
        );
        let bytes = register(
            &registry,
            counters(
                "opam_keep_http_response_bytes_total",
                "Bytes of bodies that were sent",
                &["route"],
            ),
        );
        let seconds = HistogramOpts::new(
            "opam_keep_http_request_duration_seconds",
            "Time from a request's head to the end of its response",
        );
        let seconds = HistogramVec::new(seconds.buckets(BUCKETS.to_vec()), &["route"]);
        let seconds = register(&registry, seconds.expect("a metric has a valid name"));
        let unfilled = register(
            &registry,
            counters(
                "opam_keep_archive_unfilled_total",
                "Archives and past states that were answered with 404, by the reason",
                &["reason"],
            ),
        );
        for reason in REASONS {
            unfilled.with_label_values(&[reason]);
        }
        let of_process: Box<dyn Collector> = Box::new(ProcessCollector::for_self());
        let tallies = keeper.tally().collectors().into_iter();
        for collector in tallies.chain(keeper.upstream_tally().collectors()).chain([of_process]) {
            registry.register(collector).expect("every metric has another name");
        }
        let build = register(
            &registry,
            gauges(
                "opam_keep_build_info",
                "Always 1; the version that runs",
                &["version", "commit"],
            ),
        );
        build.with_label_values(&[VERSION.number, VERSION.commit.unwrap_or_default()]).set(1);
        let of_route = |route: &Route| {
            let each = |status: &&str| requests.with_label_values(&[route.as_str(), status]);
            STATUSES.iter().map(each).collect()
        };
        Self {
            requests: Route::ALL.iter().map(of_route).collect(),
            bytes: Route::ALL.map(|it| bytes.with_label_values(&[it.as_str()])).into(),
            seconds: Route::ALL.map(|it| seconds.with_label_values(&[it.as_str()])).into(),
            unfilled,
            gauges: Gauges::new(&registry),
            registry,
            scraped: tokio::sync::Mutex::default(),
        }
    }

    /// Counts a request whose response is over.
    pub(super) fn count(&self, route: Route, status: StatusCode, bytes: u64, took: Duration) {
        let place = STATUSES.iter().position(|it| *it == status.as_str());
        let counter = self.requests.get(route as usize);
        let place = place.unwrap_or(STATUSES.len() - 1);
        if let Some(counter) = counter.and_then(|statuses| statuses.get(place)) {
            counter.inc();
        }
        if let Some(counter) = self.bytes.get(route as usize) {
            counter.inc_by(bytes);
        }
        if let Some(histogram) = self.seconds.get(route as usize) {
            histogram.observe(took.as_secs_f64());
        }
    }

    /// Counts an archive that can't be had, as `X-Opam-Keep-Reason` says.
    pub(super) fn count_unfilled(&self, reason: &str) {
        let reason = reason.split(';').next().unwrap_or_default();
        let reason = REASONS.iter().find(|it| **it == reason).unwrap_or(&"other");
        self.unfilled.with_label_values(&[reason]).inc();
    }

    /// How many bytes of archives and indexes were sent.
    pub(super) fn bytes_of_mirror(&self) -> u64 {
        let routes = [Route::Archive, Route::Index];
        routes.iter().filter_map(|it| self.bytes.get(*it as usize)).map(IntCounter::get).sum()
    }
}

/// Answers a scrape.
pub(super) async fn answer(server: &Server) -> Response<Body> {
    let mut scraped = server.metrics.scraped.lock().await;
    let known = scraped.as_ref().filter(|(at, _)| at.elapsed() < SHARED_FOR);
    let text = match known {
        Some((_, text)) => text.clone(),
        None => match scrape(server).await {
            Ok(text) => {
                *scraped = Some((Instant::now(), text.clone()));
                text
            }
            Err(error) => {
                tracing::error!(%error, "metrics can't be written");
                let text = "the metrics can't be written; see the server's log";
                return answer::message(StatusCode::INTERNAL_SERVER_ERROR, text);
            }
        },
    };
    answer::plain(text, "text/plain; version=0.0.4; charset=utf-8", "no-store")
}

async fn scrape(server: &Server) -> Result<Bytes, String> {
    let status = server.status().await;
    let ready = server.readiness().await;
    let gauges = &server.metrics.gauges;
    gauges.connections.set(whole(server.limits.open()));
    for part in ready {
        let is_ready = i64::from(part.problem.is_none());
        gauges.ready.with_label_values(&[part.part.as_str()]).set(is_ready);
    }
    let expires = server.certificate_expires.map_or(0, Timestamp::as_second);
    gauges.certificate_expiry.set(expires);
    gauges.take(&server.keeper, &status);
    let keeper = Arc::clone(&server.keeper);
    let counts = tokio::task::spawn_blocking(move || keeper.divergence_counts()).await;
    let counts = counts.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    for kind in DivergenceKind::ALL {
        for state in DIVERGENCE_STATES {
            let count = counts.get(&(kind, state)).copied().unwrap_or_default();
            let labels = [&*kind.to_string(), &*state.to_string()];
            gauges.divergences.with_label_values(&labels).set(whole(count));
        }
    }
    let text = TextEncoder::new().encode_to_string(&server.metrics.registry.gather());
    text.map(Bytes::from).map_err(|error| error.to_string())
}

impl Gauges {
    fn new(registry: &Registry) -> Self {
        let gauge = |name, help| {
            register(registry, IntGauge::new(name, help).expect("a metric has a valid name"))
        };
        let of = |name, help, labels: &[&str]| register(registry, gauges(name, help, labels));
        let counter =
            |name, help, labels: &[&str]| register(registry, counters(name, help, labels));
        Self {
            connections: gauge("opam_keep_http_connections", "Open connections of clients"),
            fetching: gauge("opam_keep_fetches", "First fetches under way"),
            ledger_entries: gauge("opam_keep_ledger_entries", "Entries of the ledger"),
            pins: gauge("opam_keep_pins", "Archives that are pinned"),
            divergences: of(
                "opam_keep_divergences",
                "Divergences by what upstream did and what became of them",
                &["kind", "state"],
            ),
            index_served: of(
                "opam_keep_index_served",
                "Whether anything is served of a repository",
                &["repository"],
            ),
            index_age: of(
                "opam_keep_index_age_seconds",
                "Time since upstream last gave a good index",
                &["repository"],
            ),
            index_versions: of(
                "opam_keep_index_versions",
                "Package versions that are served",
                &["repository"],
            ),
            index_held: of(
                "opam_keep_index_held_versions",
                "Versions that are served as before, because the policy holds an edit",
                &["repository"],
            ),
            index_refused: of(
                "opam_keep_index_refused_versions",
                "Versions that upstream has and that are not served",
                &["repository"],
            ),
            rechecks: counter(
                "opam_keep_rechecks_total",
                "Pinned URLs that were fetched again, by what came of it",
                &["outcome"],
            ),
            recheck_urls: of(
                "opam_keep_recheck_urls",
                "Pinned URLs by what came of them when they were fetched last",
                &["outcome"],
            ),
            recheck_bytes: {
                let name = "opam_keep_recheck_bytes_total";
                let counter = IntCounter::new(name, "Bytes that rechecks took from upstreams");
                register(registry, counter.expect("a metric has a valid name"))
            },
            recheck_due: gauge("opam_keep_recheck_due_urls", "Pinned URLs that are due"),
            recheck_lag: gauge(
                "opam_keep_recheck_lag_seconds",
                "Time since the longest due URL is due",
            ),
            store_blobs: gauge("opam_keep_store_blobs", "Blobs in the store"),
            store_bytes: gauge("opam_keep_store_bytes", "Bytes of all blobs"),
            store_free: gauge(
                "opam_keep_store_free_bytes",
                "Bytes that are free on the store's file system",
            ),
            verified_at: gauge(
                "opam_keep_verify_timestamp_seconds",
                "When the whole store was last verified; 0 if never",
            ),
            verified_problems: gauge(
                "opam_keep_verify_problems",
                "What was wrong when the whole store was last verified",
            ),
            verified_blobs: gauge(
                "opam_keep_verify_blobs",
                "Blobs that were hashed when the whole store was last verified",
            ),
            alerts_queued: of("opam_keep_alerts_queued", "Alerts that wait for a sink", &["sink"]),
            alerts_delivered: counter(
                "opam_keep_alerts_delivered_total",
                "Alerts that a sink took",
                &["sink"],
            ),
            alerts_given_up: counter(
                "opam_keep_alerts_given_up_total",
                "Alerts that were given up because the sink refused them for days",
                &["sink"],
            ),
            alerts_failures: of(
                "opam_keep_alerts_failed_attempts",
                "Attempts that failed since a sink last took an alert",
                &["sink"],
            ),
            ready: of(
                "opam_keep_ready",
                "Whether a part is as it should be, as /readyz tells",
                &["part"],
            ),
            configuration_refused: gauge(
                "opam_keep_configuration_refused",
                "Whether what mirror.toml or a certificate says by now is refused",
            ),
            certificate_expiry: gauge(
                "opam_keep_certificate_expiry_timestamp_seconds",
                "When the server's certificate expires; 0 where none is served",
            ),
        }
    }

    /// Takes over what a status says.
    fn take(&self, keeper: &Keeper, status: &Status) {
        let refused = status.configuration.as_ref().is_some_and(|it| it.problem.is_some());
        self.configuration_refused.set(i64::from(refused));
        self.fetching.set(whole(status.fetching as u64));
        self.ledger_entries.set(whole(status.entries));
        self.pins.set(whole(status.pins));
        for repository in &status.repositories {
            let name = &[repository.name.as_str()];
            self.index_served.with_label_values(name).set(i64::from(repository.entry.is_some()));
            let versions = repository.versions.unwrap_or_default();
            self.index_versions.with_label_values(name).set(whole(versions));
            self.index_held.with_label_values(name).set(whole(repository.held.len() as u64));
            let refused = repository.refused.len() as u64;
            self.index_refused.with_label_values(name).set(whole(refused));
            let fresh = repository.fresh_at.max(keeper.alerts().fresh_at(&repository.name));
            let fresh = fresh.or(repository.admitted_at);
            let age = fresh.map_or(0, |at| seconds_since(status.at, at));
            self.index_age.with_label_values(name).set(age);
        }
        if let Some(rechecks) = &status.rechecks {
            for outcome in Outcome::ALL {
                let name = &[&*outcome.to_string()];
                let urls = rechecks.urls.get(&outcome).copied().unwrap_or_default();
                self.recheck_urls.with_label_values(name).set(whole(urls));
                let done = rechecks.done.get(&outcome).copied().unwrap_or_default();
                raise(&self.rechecks.with_label_values(name), done);
            }
            raise(&self.recheck_bytes, rechecks.bytes);
            self.recheck_due.set(whole(rechecks.due));
            let lag = rechecks.due_since.map_or(0, |since| seconds_since(status.at, since));
            self.recheck_lag.set(lag);
        }
        for sink in &status.sinks {
            let name = &[sink.sink.as_str()];
            self.alerts_queued.with_label_values(name).set(whole(sink.waiting.len() as u64));
            raise(&self.alerts_delivered.with_label_values(name), sink.delivered);
            raise(&self.alerts_given_up.with_label_values(name), sink.given_up);
            self.alerts_failures.with_label_values(name).set(i64::from(sink.failures));
        }
        let (blobs, bytes) = keeper.measured();
        self.store_blobs.set(whole(blobs));
        self.store_bytes.set(whole(bytes));
        let layout = keeper.store().layout();
        if let Ok(system) = rustix::fs::statvfs(layout.blobs()) {
            self.store_free.set(whole(system.f_bavail.saturating_mul(system.f_frsize)));
        }
        if let Some(verified) = Verified::last(layout) {
            self.verified_at.set(verified.at.as_second());
            self.verified_problems.set(whole(verified.problems));
            self.verified_blobs.set(whole(verified.blobs));
        }
    }
}

fn counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    IntCounterVec::new(Opts::new(name, help), labels).expect("a metric has a valid name")
}

fn gauges(name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    IntGaugeVec::new(Opts::new(name, help), labels).expect("a metric has a valid name")
}

fn register<T: Collector + Clone + 'static>(registry: &Registry, metric: T) -> T {
    registry.register(Box::new(metric.clone())).expect("every metric has another name");
    metric
}

/// Has a counter catch up with what was counted elsewhere.
fn raise(counter: &IntCounter, count: u64) {
    counter.inc_by(count.saturating_sub(counter.get()));
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn seconds_since(now: Timestamp, then: Timestamp) -> i64 {
    now.duration_since(then).as_secs().max(0)
}

/// The statuses that are told apart; the last one stands for all others.
const STATUSES: [&str; 18] = [
    "200", "206", "303", "304", "400", "401", "403", "404", "405", "408", "409", "413", "416",
    "431", "500", "502", "503", "other",
];
/// The tokens of `X-Opam-Keep-Reason`, and one for all others.
const REASONS: [&str; 10] = [
    "undeclared",
    "unavailable",
    "diverged",
    "refused",
    "fetching",
    "no-snapshot",
    "busy",
    "offline",
    "store",
    "other",
];
const DIVERGENCE_STATES: [DivergenceState; 3] =
    [DivergenceState::Open, DivergenceState::Acknowledged, DivergenceState::Accepted];
const BUCKETS: [f64; 8] = [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0];
/// For how long a scrape is good enough for others.
const SHARED_FOR: Duration = Duration::from_secs(1);
