//! The transparency log, as pure functions over bytes.
