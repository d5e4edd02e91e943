//! What is damaged may be reported by a panic of the library that reads it: here it is an error like
//! any other.

use super::index::IndexError;
use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Asks, and has a panic come back as an error, which is told by whoever is told of that.
pub(super) fn guarded<T>(ask: impl FnOnce() -> Result<T, IndexError>) -> Result<T, IndexError> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let tell = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !IS_GUARDED.get() {
                tell(panic);
            }
        }));
    });
    let was_guarded = IS_GUARDED.replace(true);
    let asked = panic::catch_unwind(AssertUnwindSafe(ask));
    IS_GUARDED.set(was_guarded);
    asked.unwrap_or_else(|panic| Err(IndexError::new(format!("it panicked: {}", said(&*panic)))))
}

/// Does what is not the library's in the midst of a question: a panic of it is told as any other.
pub(super) fn ours<T>(work: impl FnOnce() -> T) -> T {
    let was_guarded = IS_GUARDED.replace(false);
    let done = work();
    IS_GUARDED.set(was_guarded);
    done
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_that_says_what_it_said() {
        let cut = guarded::<()>(|| panic!("page {} is not there\nat all", 3));
        let said = cut.unwrap_err().to_string();
        assert!(said.ends_with("it panicked: page 3 is not there"), "{said}");
        assert!(guarded(|| Ok(())).is_ok());
    }
}
