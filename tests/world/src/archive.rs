//! Tarballs as upstreams make them: the same bytes for the same files, every time.

use flate2::{Compression, write::GzEncoder};

/// A gzipped ustar of `files`, in the order given.
pub fn tar_gz<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, path, bytes).expect("a tarball in memory takes every file");
    }
    let gz = tar.into_inner().expect("a tarball in memory can be ended");
    gz.finish().expect("a gzip stream in memory can be ended")
}
