//! The decisions: pinning, admitting, filling misses.
