//! What a Prometheus scrapes: counters that move as things happen, and gauges that are read when
//! somebody asks. Every series is there from the start.

use super::Server;
use super::answer;
use super::body::Body;
use super::gauges::{Gauges, counters, gauges, register, whole};
use super::route::Route;
use crate::VERSION;
use crate::keeper::Keeper;
use crate::ledger::entry::{DivergenceKind, DivergenceState};
use crate::places::Places;
use bytes::Bytes;
use http::{Response, StatusCode};
use jiff::Timestamp;
use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Registry, TextEncoder,
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
    let status = server.status().await.map_err(|error| error.to_string())?;
    let ready = server.readiness().await;
    let gauges = &server.metrics.gauges;
    gauges.connections.set(whole(server.limits.open()));
    for part in ready {
        let is_ready = i64::from(part.problem.is_none());
        gauges.ready.with_label_values(&[part.part.as_str()]).set(is_ready);
    }
    let expires = server.certificate_expires.map_or(0, Timestamp::as_second);
    gauges.certificate_expiry.set(expires);
    let (keeper, metrics) = (Arc::clone(&server.keeper), Arc::clone(&server.metrics));
    let count = move || {
        metrics.gauges.take(&keeper, &status);
        keeper.divergence_counts()
    };
    let counts = COUNTING.work(count).await;
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

static COUNTING: Places = Places::new(1);

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
