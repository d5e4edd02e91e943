//! Listener, TLS and one file per endpoint.
