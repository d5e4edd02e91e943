//! Everything that dials out.
