//! Whose turn it is: so many fetches at one time, so many of one host, none of a broken one.

use super::circuit::{Admission, Circuit, CircuitLimits};
use super::error::FetchErrorKind;
use super::turns::{Awaited, Turns};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::info;

/// All hosts that were asked lately.
#[derive(Debug)]
pub(super) struct Hosts {
    turns: Arc<Semaphore>,
    /// Those of them that may be taken where no client waits.
    background: Arc<Semaphore>,
    bounds: Turns,
    longest_wait: Duration,
    limits: CircuitLimits,
    known: Mutex<HashMap<String, Arc<Host>>>,
}

#[derive(Debug)]
struct Host {
    name: String,
    turns: Arc<Semaphore>,
    background: Arc<Semaphore>,
    circuit: Mutex<Circuit>,
    /// How it failed last.
    problem: Mutex<Arc<str>>,
    limits: CircuitLimits,
}

/// A turn with one host, until it is dropped.
///
/// Whoever holds it says how the host did; to say nothing is right only when nothing was
/// learned.
#[derive(Debug)]
pub(super) struct Turn {
    host: Arc<Host>,
    admission: Admission,
    told: bool,
    _permits: Vec<Permit>,
}

/// Room in one of the queues; always there, as none of them is ever closed.
type Permit = Option<OwnedSemaphorePermit>;

impl Hosts {
    /// Room for so many turns at one time; a client that waits longer than `longest_wait` for one is
    /// sent away.
    pub(super) fn new(bounds: Turns, longest_wait: Duration, limits: CircuitLimits) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(bounds.all)),
            background: Arc::new(Semaphore::new(bounds.in_background().all)),
            bounds,
            longest_wait,
            limits,
            known: Mutex::default(),
        }
    }

    /// Waits for a turn with `name`, which is host and port: however long it takes until a client
    /// waits too, and from then on `longest_wait`.
    ///
    /// # Errors
    /// The host is left alone for now, or no turn came.
    pub(super) async fn turn(&self, name: &str, by: &Awaited) -> Result<Turn, FetchErrorKind> {
        let host = self.host(name);
        if let Some(retry_in) = locked(&host.circuit).refusal(Instant::now()) {
            return Err(host.left_alone(retry_in));
        }
        let turn = async {
            tokio::select! {
                biased;
                () = by.client() => {}
                permits = self.background_turn(&host) => return permits,
            }
            // The host's own queue comes first, so that those who wait for a slow host take no turns
            // from the others.
            vec![permit(&host.turns).await, permit(&self.turns).await]
        };
        let too_long = async {
            by.client().await;
            tokio::time::sleep(self.longest_wait).await;
        };
        let permits = tokio::select! {
            biased;
            permits = turn => permits,
            () = too_long => return Err(FetchErrorKind::Busy { waited: self.longest_wait }),
        };
        let admission = locked(&host.circuit).admit(Instant::now());
        let admission = admission.map_err(|retry_in| host.left_alone(retry_in))?;
        Ok(Turn { host, admission, told: false, _permits: permits })
    }

    /// A turn that leaves some to clients. Whoever waits for one holds nothing that others wait for.
    async fn background_turn(&self, host: &Host) -> Vec<Permit> {
        let of_background = permit(&host.background).await;
        loop {
            let of_host = permit(&host.turns).await;
            if let Ok(of_all) = self.background.clone().try_acquire_owned() {
                let all = permit(&self.turns).await;
                return vec![of_background, of_host, Some(of_all), all];
            }
            drop(of_host);
            // Until there is room; someone else may be there sooner.
            drop(permit(&self.background).await);
        }
    }

    fn host(&self, name: &str) -> Arc<Host> {
        let mut known = locked(&self.known);
        if let Some(host) = known.get(name) {
            return host.clone();
        }
        if known.len() >= MAX_HOSTS {
            known.retain(|_, host| host.is_in_use() || !host.is_healthy());
        }
        if known.len() >= MAX_HOSTS {
            known.retain(|_, host| host.is_in_use());
        }
        let host = Arc::new(Host {
            name: name.to_owned(),
            turns: Arc::new(Semaphore::new(self.bounds.per_host)),
            background: Arc::new(Semaphore::new(self.bounds.in_background().per_host)),
            circuit: Mutex::new(Circuit::CLOSED),
            problem: Mutex::new("".into()),
            limits: self.limits,
        });
        known.insert(name.to_owned(), host.clone());
        host
    }
}

impl Host {
    /// Whether anyone but the table of hosts knows it.
    fn is_in_use(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1
    }

    fn left_alone(&self, retry_in: Duration) -> FetchErrorKind {
        FetchErrorKind::CircuitOpen { retry_in, problem: Arc::clone(&locked(&self.problem)) }
    }

    fn is_healthy(&self) -> bool {
        *locked(&self.circuit) == Circuit::CLOSED
    }
}

impl Turn {
    /// The host did what it should.
    pub(super) fn succeeded(mut self) {
        self.told = true;
        locked(&self.host.circuit).succeeded();
    }

    /// The host failed.
    pub(super) fn failed(mut self, how: &FetchErrorKind) {
        self.told = true;
        *locked(&self.host.problem) = how.to_string().into();
        let mut circuit = locked(&self.host.circuit);
        let now = Instant::now();
        let was_open = matches!(*circuit, Circuit::Open { .. });
        circuit.failed(now, &self.host.limits);
        if let (Circuit::Open { until, .. }, false) = (*circuit, was_open) {
            let seconds = until.saturating_duration_since(now).as_secs();
            info!(host = self.host.name, seconds, "the host keeps failing and is left alone");
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.told && self.admission == Admission::Probe {
            locked(&self.host.circuit).abandoned(Instant::now());
        }
    }
}

async fn permit(queue: &Arc<Semaphore>) -> Permit {
    queue.clone().acquire_owned().await.ok()
}

/// What the mutexes here guard is whole after every statement, so a panic elsewhere is no
/// reason to stop.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hosts remembered at one time, not counting those being asked.
const MAX_HOSTS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::backoff::Backoff;

    fn hosts(all: usize, per_host: usize) -> Hosts {
        let open =
            Backoff { first: Duration::from_millis(300), longest: Duration::from_millis(300) };
        let limits = CircuitLimits { failures: 2, open };
        Hosts::new(Turns { all, per_host }, Duration::from_millis(30), limits)
    }

    impl Hosts {
        async fn client_turn(&self, name: &str) -> Result<Turn, FetchErrorKind> {
            self.turn(name, &Awaited::by_client()).await
        }
    }

    #[tokio::test]
    async fn a_host_gets_its_share_and_not_more() {
        let hosts = hosts(3, 2);
        let first = hosts.client_turn("a:443").await.unwrap();
        let _second = hosts.client_turn("a:443").await.unwrap();
        assert!(matches!(hosts.client_turn("a:443").await, Err(FetchErrorKind::Busy { .. })));
        let _third = hosts.client_turn("b:443").await.unwrap();
        assert!(matches!(hosts.client_turn("b:443").await, Err(FetchErrorKind::Busy { .. })));
        drop(first);
        assert!(hosts.client_turn("b:443").await.is_ok());
    }

    #[tokio::test]
    async fn what_no_client_waits_for_leaves_turns_to_those_who_do() {
        let hosts = hosts(4, 3);
        let nobody = Awaited::by_none();
        let background = async |name: &str| {
            let turn = hosts.turn(name, &nobody);
            tokio::time::timeout(Duration::from_millis(60), turn).await.map(Result::unwrap).ok()
        };
        let first = background("a:443").await.expect("a turn");
        let _second = background("a:443").await.expect("a turn");
        assert!(background("a:443").await.is_none());
        let _third = background("b:443").await.expect("a turn");
        assert!(background("b:443").await.is_none());
        let _clients = hosts.client_turn("a:443").await.unwrap();
        assert!(matches!(hosts.client_turn("a:443").await, Err(FetchErrorKind::Busy { .. })));
        drop(first);
        assert!(background("a:443").await.is_some());
    }

    #[tokio::test]
    async fn what_waits_for_a_host_that_clients_keep_busy_takes_no_turns_from_the_others() {
        let hosts = hosts(4, 2);
        let _clients = (hosts.client_turn("a:443").await, hosts.client_turn("a:443").await);
        let nobody = Awaited::by_none();
        let mut waiting = std::pin::pin!(async { hosts.turn("a:443", &nobody).await });
        let short = Duration::from_millis(60);
        assert!(
            tokio::time::timeout(short, waiting.as_mut()).await.is_err(),
            "and is not sent away"
        );
        let others = [hosts.turn("b:443", &nobody).await, hosts.turn("c:443", &nobody).await];
        assert!(others.iter().all(Result::is_ok));
    }

    #[tokio::test]
    async fn what_a_client_comes_to_wait_for_gets_a_clients_turn() {
        let hosts = Arc::new(hosts(4, 2));
        let _first = hosts.turn("a:443", &Awaited::by_none()).await.unwrap();
        let awaited = Awaited::by_none();
        let queued = {
            let (hosts, awaited) = (Arc::clone(&hosts), awaited.clone());
            tokio::spawn(async move { hosts.turn("a:443", &awaited).await })
        };
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert!(!queued.is_finished());
        awaited.join();
        queued.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn g5_a_failing_host_is_left_alone_and_tried_again_later() {
        let hosts = hosts(4, 4);
        let early = hosts.client_turn("a:443").await.unwrap();
        for _ in 0..2 {
            hosts
                .client_turn("a:443")
                .await
                .unwrap()
                .failed(&FetchErrorKind::UnusableUrl("it burnt"));
        }
        let refused = hosts.client_turn("a:443").await.unwrap_err();
        assert!(matches!(refused, FetchErrorKind::CircuitOpen { .. }));
        assert!(refused.to_string().ends_with("it burnt"), "{refused}");
        assert!(hosts.client_turn("b:443").await.is_ok());
        drop(early);

        tokio::time::sleep(Duration::from_millis(305)).await;
        let probe = hosts.client_turn("a:443").await.unwrap();
        assert!(matches!(
            hosts.client_turn("a:443").await,
            Err(FetchErrorKind::CircuitOpen { .. })
        ));
        drop(probe);
        hosts.client_turn("a:443").await.unwrap().succeeded();
        let _both =
            (hosts.client_turn("a:443").await.unwrap(), hosts.client_turn("a:443").await.unwrap());
    }

    #[tokio::test]
    async fn the_table_of_hosts_stays_bounded_and_keeps_those_in_use() {
        let hosts = hosts(4, 1);
        let _held = hosts.client_turn("held:443").await.unwrap();
        for number in 0..3 * MAX_HOSTS {
            drop(hosts.client_turn(&format!("{number}:443")).await.unwrap());
        }
        assert!(locked(&hosts.known).len() <= MAX_HOSTS);
        assert!(matches!(hosts.client_turn("held:443").await, Err(FetchErrorKind::Busy { .. })));
    }
}
