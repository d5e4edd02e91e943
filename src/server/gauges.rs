//! What a Prometheus reads of keeper and store: gauges, and counters that catch up with what was
//! counted elsewhere, both set when somebody asks.

use super::status::Status;
use crate::keeper::verified::Verified;
use crate::keeper::{Exceptions, Keeper};
use crate::ledger::entry::Outcome;
use jiff::Timestamp;
use prometheus::core::Collector;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// What is read when somebody asks.
pub(super) struct Gauges {
    pub connections: IntGauge,
    fetching: IntGauge,
    ledger_entries: IntGauge,
    pins: IntGauge,
    pub divergences: IntGaugeVec,
    index_served: IntGaugeVec,
    index_age: IntGaugeVec,
    index_versions: IntGaugeVec,
    index_held: IntGaugeVec,
    index_held_whole: IntGaugeVec,
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
    pub ready: IntGaugeVec,
    configuration_refused: IntGauge,
    pub certificate_expiry: IntGauge,
}

impl Gauges {
    pub(super) fn new(registry: &Registry) -> Self {
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
                "Versions that are served as before, or not yet, because the policy holds an edit",
                &["repository"],
            ),
            index_held_whole: of(
                "opam_keep_index_held_as_a_whole",
                "Whether nothing new is served of a repository until someone decides",
                &["repository"],
            ),
            index_refused: of(
                "opam_keep_index_refused_versions",
                "Versions that can't be served as upstream has them",
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
    pub(super) fn take(&self, keeper: &Keeper, status: &Status) {
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
            let Exceptions { refused, kept, held, waiting, whole: as_a_whole } =
                &repository.exceptions;
            let held = (held.len() + waiting.len()) as u64;
            self.index_held.with_label_values(name).set(whole(held));
            self.index_held_whole.with_label_values(name).set(i64::from(as_a_whole.is_some()));
            let refused = (refused.len() + kept.len()) as u64;
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

pub(super) fn counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    IntCounterVec::new(Opts::new(name, help), labels).expect("a metric has a valid name")
}

pub(super) fn gauges(name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    IntGaugeVec::new(Opts::new(name, help), labels).expect("a metric has a valid name")
}

pub(super) fn register<T: Collector + Clone + 'static>(registry: &Registry, metric: T) -> T {
    registry.register(Box::new(metric.clone())).expect("every metric has another name");
    metric
}

/// Has a counter catch up with what was counted elsewhere.
fn raise(counter: &IntCounter, count: u64) {
    counter.inc_by(count.saturating_sub(counter.get()));
}

pub(super) fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn seconds_since(now: Timestamp, then: Timestamp) -> i64 {
    now.duration_since(then).as_secs().max(0)
}
