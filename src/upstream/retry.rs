//! Asking again, a few times and not at once, as long as nobody has seen an answer.

use super::backoff::Backoff;
use super::error::FetchError;
use std::future::Future;
use std::time::Duration;
use tracing::debug;

/// How often and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct RetryLimits {
    /// Attempts in all, the first one included.
    pub(super) attempts: u32,
    /// The waits between them.
    pub(super) pause: Backoff,
}

impl Default for RetryLimits {
    fn default() -> Self {
        Self {
            attempts: 3,
            pause: Backoff { first: Duration::from_millis(400), longest: Duration::from_secs(4) },
        }
    }
}

/// Runs `attempt` until it succeeds, fails for good, or was tried often enough.
///
/// # Errors
/// What the last attempt said.
pub(super) async fn retrying<T, F>(
    limits: RetryLimits,
    mut attempt: impl FnMut() -> F,
) -> Result<T, FetchError>
where
    F: Future<Output = Result<T, FetchError>>,
{
    for nth in 0..limits.attempts.saturating_sub(1) {
        match attempt().await {
            Err(error) if error.is_worth_asking_again() => {
                debug!(%error, "asking again");
                tokio::time::sleep(limits.pause.wait(nth)).await;
            }
            outcome => return outcome,
        }
    }
    attempt().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::error::FetchErrorKind;
    use http::StatusCode;

    async fn attempts_for(kind: FetchErrorKind) -> u32 {
        let pause = Backoff { first: Duration::from_millis(1), longest: Duration::from_millis(1) };
        let mut attempts = 0;
        let outcome: Result<(), _> = retrying(RetryLimits { attempts: 3, pause }, || {
            attempts += 1;
            let url = "https://a.example".parse().unwrap();
            let error = FetchError::new(&url, kind.clone());
            async { Err(error) }
        })
        .await;
        assert!(outcome.is_err());
        attempts
    }

    #[tokio::test]
    async fn only_what_may_pass_by_itself_is_asked_again() {
        let interrupted = FetchErrorKind::Interrupted { reason: String::new() };
        assert_eq!(attempts_for(interrupted).await, 3);
        assert_eq!(attempts_for(FetchErrorKind::Status(StatusCode::BAD_GATEWAY)).await, 3);
        assert_eq!(attempts_for(FetchErrorKind::Status(StatusCode::NOT_FOUND)).await, 1);
        assert_eq!(attempts_for(FetchErrorKind::Status(StatusCode::TOO_MANY_REQUESTS)).await, 1);
        let open = FetchErrorKind::CircuitOpen { retry_in: Duration::ZERO, problem: "".into() };
        assert_eq!(attempts_for(open).await, 1);
    }
}
