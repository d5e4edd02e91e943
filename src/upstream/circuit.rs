//! The circuit breaker of one host, as a state machine without a clock of its own.

use super::backoff::Backoff;
use std::time::{Duration, Instant};

/// When a circuit opens, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct CircuitLimits {
    /// So many failures in a row open it.
    pub(super) failures: u32,
    /// How long it stays open, longer each time in a row.
    pub(super) open: Backoff,
}

impl Default for CircuitLimits {
    fn default() -> Self {
        Self {
            failures: 5,
            open: Backoff { first: Duration::from_secs(10), longest: Duration::from_secs(600) },
        }
    }
}

/// Whether a host may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Circuit {
    /// It may; so many failures came in a row.
    Closed { failures: u32 },
    /// It may not until then; so often in a row has the circuit opened.
    Open { until: Instant, openings: u32 },
    /// One request tries it out, all others wait for what that one finds.
    Probing { openings: u32 },
}

/// On which terms a request goes ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Like any other.
    Normal,
    /// As the one that tries the host out.
    Probe,
}

impl Circuit {
    pub(super) const CLOSED: Self = Self::Closed { failures: 0 };

    /// Lets a request through.
    ///
    /// # Errors
    /// How long the host is left alone; zero while a probe is under way.
    pub(super) fn admit(&mut self, now: Instant) -> Result<Admission, Duration> {
        match *self {
            Self::Closed { .. } => Ok(Admission::Normal),
            Self::Open { until, .. } if now < until => Err(until - now),
            Self::Open { openings, .. } => {
                *self = Self::Probing { openings };
                Ok(Admission::Probe)
            }
            Self::Probing { .. } => Err(Duration::ZERO),
        }
    }

    /// How long a request would be refused, without letting it through.
    pub(super) fn refusal(&self, now: Instant) -> Option<Duration> {
        let mut copy = *self;
        copy.admit(now).err()
    }

    /// A request ended well.
    pub(super) fn succeeded(&mut self) {
        *self = Self::CLOSED;
    }

    /// A request failed, by the host's fault.
    pub(super) fn failed(&mut self, now: Instant, limits: &CircuitLimits) {
        let openings = match *self {
            Self::Closed { failures } if failures + 1 < limits.failures => {
                *self = Self::Closed { failures: failures + 1 };
                return;
            }
            Self::Closed { .. } => 0,
            Self::Probing { openings } => openings.saturating_add(1),
            // A request from before: the circuit is open already.
            Self::Open { .. } => return,
        };
        *self = Self::Open { until: now + limits.open.wait(openings), openings };
    }

    /// The probe ended without telling anything: the next request is the probe.
    pub(super) fn abandoned(&mut self, now: Instant) {
        if let Self::Probing { openings } = *self {
            *self = Self::Open { until: now, openings };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> CircuitLimits {
        CircuitLimits {
            failures: 3,
            open: Backoff { first: Duration::from_secs(10), longest: Duration::from_secs(40) },
        }
    }

    fn opened(now: Instant) -> Circuit {
        let mut circuit = Circuit::CLOSED;
        for _ in 0..3 {
            assert_eq!(circuit.admit(now), Ok(Admission::Normal));
            circuit.failed(now, &limits());
        }
        circuit
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_success_in_between_does_not() {
        let now = Instant::now();
        let mut circuit = Circuit::CLOSED;
        for _ in 0..5 {
            circuit.failed(now, &limits());
            circuit.failed(now, &limits());
            circuit.succeeded();
        }
        assert_eq!(circuit, Circuit::CLOSED);
        assert!(opened(now).refusal(now).is_some());
    }

    #[test]
    fn one_probe_decides_for_all() {
        let now = Instant::now();
        let mut circuit = opened(now);
        let later = now + Duration::from_secs(10);
        assert_eq!(circuit.admit(later), Ok(Admission::Probe));
        assert_eq!(circuit.admit(later), Err(Duration::ZERO));
        circuit.succeeded();
        assert_eq!(circuit.admit(later), Ok(Admission::Normal));
    }

    #[test]
    fn it_stays_open_longer_each_time_up_to_a_bound() {
        let mut now = Instant::now();
        let mut circuit = opened(now);
        for full in [20, 40, 40, 40] {
            now += Duration::from_secs(60);
            assert_eq!(circuit.admit(now), Ok(Admission::Probe));
            circuit.failed(now, &limits());
            let wait = circuit.refusal(now).unwrap();
            assert!(wait >= Duration::from_secs(full / 2) && wait <= Duration::from_secs(full));
        }
    }

    #[test]
    fn a_probe_that_tells_nothing_makes_room_for_the_next() {
        let now = Instant::now();
        let mut circuit = opened(now);
        let later = now + Duration::from_secs(10);
        assert_eq!(circuit.admit(later), Ok(Admission::Probe));
        circuit.abandoned(later);
        assert_eq!(circuit.admit(later), Ok(Admission::Probe));
    }
}
