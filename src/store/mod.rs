//! What is on disk: blobs, ledger files, catalog, and the one writer.
