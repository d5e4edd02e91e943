//! Whether what an opam file says of its sources by now is what clients got from here: their pins.

use super::admit::public_url;
use crate::digest::Digests;
use crate::ledger::entry::Entry;
use crate::opam::{ArchiveSource, Checksum, EditKind, OpamFile, Role, archive_sources};
use crate::store::Store;

/// What the checksums that sources gained say otherwise than the pins, each with the kind of edit
/// that it is.
pub(super) fn contradictions(store: &Store, was: &[u8], is: &[u8]) -> Vec<(EditKind, String)> {
    let (was, is) = (sources(was), sources(is));
    let both = was.iter().filter_map(|was| Some((was, is.iter().find(|is| is.role == was.role)?)));
    let contradiction = |(was, is): (&ArchiveSource, &ArchiveSource)| {
        let known = was.checksums.as_slice();
        let gained = is.checksums.as_slice().iter().filter(|it| !known.contains(it));
        let gained: Vec<&Checksum> = gained.collect();
        if gained.is_empty() {
            return None;
        }
        let why = match pin(store, was) {
            Ok(Some((_, digests))) if gained.iter().all(|it| it.matches(&digests)) => return None,
            Ok(Some((entry, _))) => {
                format!("checksum: contradicts the pin's in ledger entry {entry}")
            }
            Ok(None) => return None,
            Err(error) => format!("checksum: the pin can't be read: {error}"),
        };
        let kind = match was.role {
            Role::Main => EditKind::SourceRewritten,
            Role::Extra(_) => EditKind::ExtraSource,
        };
        Some((kind, why))
    };
    both.filter_map(contradiction).collect()
}

/// What clients get for a source, as far as that is pinned, with its place in the ledger.
fn pin(store: &Store, source: &ArchiveSource) -> Result<Option<(u64, Digests)>, String> {
    let urls: Vec<String> = source.urls.iter().filter_map(|url| public_url(url)).collect();
    let found = store.lookup(|catalog| catalog.kept_of(source.checksums.as_slice(), &urls));
    let Some(found) = found.map_err(|error| error.to_string())? else { return Ok(None) };
    match store.log().entries(found.entry, found.entry + 1).next() {
        Some(Ok((entry, Entry::Pin(pin)))) => Ok(Some((entry, pin.digests()))),
        Some(Err(error)) => Err(error.to_string()),
        Some(Ok(_)) | None => Err(format!("ledger entry {} is none", found.entry)),
    }
}

fn sources(opam: &[u8]) -> Vec<ArchiveSource> {
    let file = OpamFile::parse(opam).ok();
    file.and_then(|file| archive_sources(&file).ok()).unwrap_or_default()
}
