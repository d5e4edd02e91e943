//! Where a repository's metadata comes from.
