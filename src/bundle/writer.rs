//! Writing a bundle, in one pass.

use super::BundleError;
use super::manifest::Manifest;
use super::member::{Member, write_list};
use super::tarball;
use crate::digest::Sha256;
use crate::ledger::note::Signer;
use std::io::{self, Read, Write};

/// A bundle that is being written; its members are known beforehand.
pub struct BundleWriter<W> {
    out: W,
    left: std::vec::IntoIter<Member>,
}

impl<W: Write> BundleWriter<W> {
    /// Begins a bundle with these members, in this order. The manifest's `list` is set here.
    ///
    /// # Errors
    /// Whatever writing says.
    pub fn begin(
        mut out: W,
        mut manifest: Manifest,
        checkpoint: &[u8],
        members: Vec<Member>,
        signer: &Signer,
    ) -> Result<Self, BundleError> {
        let list = write_list(&members);
        manifest.list = Sha256::of(&list);
        let manifest = signer.sign(&manifest.to_string());
        for (path, bytes) in
            [("manifest", &manifest[..]), ("checkpoint", checkpoint), ("list", &list)]
        {
            tarball::write(&mut out, path, bytes.len() as u64, |out| out.write_all(bytes))?;
        }
        Ok(Self { out, left: members.into_iter() })
    }

    /// The member that comes next.
    pub fn next(&self) -> Option<&Member> {
        self.left.as_slice().first()
    }

    /// Writes the next member.
    ///
    /// # Errors
    /// When its bytes are not those that it was announced with, or can't be written.
    pub fn write(&mut self, source: &mut impl Read) -> Result<(), BundleError> {
        let Some(Member { path, sha256, size }) = self.left.next() else {
            return Err(BundleError::Form("it has no further member".to_owned()));
        };
        let path = path.to_string();
        let mut hashing = Hashing::default();
        tarball::write(&mut self.out, &path, size, |out| {
            let copied = io::copy(&mut source.take(size), &mut Tee { out, hashing: &mut hashing })?;
            match copied == size {
                true => Ok(()),
                false => Err(io::ErrorKind::UnexpectedEof.into()),
            }
        })?;
        match hashing.finish() {
            found if found == sha256 => Ok(()),
            found => Err(BundleError::Damaged { path, found }),
        }
    }

    /// Ends the bundle and returns what it was written to.
    ///
    /// # Errors
    /// Whatever writing says, or when a member is missing.
    pub fn end(mut self) -> Result<W, BundleError> {
        if let Some(member) = self.left.next() {
            return Err(BundleError::Truncated(member.path.to_string()));
        }
        tarball::write_end(&mut self.out)?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// SHA-256 of what comes.
#[derive(Default)]
pub(super) struct Hashing(sha2::Sha256);

impl Hashing {
    pub(super) fn take(&mut self, bytes: &[u8]) {
        sha2::Digest::update(&mut self.0, bytes);
    }

    pub(super) fn finish(self) -> Sha256 {
        Sha256::from_bytes(sha2::Digest::finalize(self.0).into())
    }
}

struct Tee<'a, W> {
    out: &'a mut W,
    hashing: &'a mut Hashing,
}

impl<W: Write> Write for Tee<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hashing.take(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
