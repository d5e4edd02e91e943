//! Stronger checksums for an opam file that declares only an md5.

use super::{Role, archive_sources, elements};
use crate::digest::Digests;
use crate::opam::syntax::{OpamFile, Span, ValueKind, quoted};
use crate::opam::{Checksum, Strength};
use bytes::Bytes;

/// The file with the SHA-256 and SHA-512 of its package's archive, appended to what it declares.
///
/// Only where md5 is all that it declares and these bytes are what it says. The first checksum
/// stays the first, so no client rebuilds anything (opam 2.0 to 2.6: `OPAM.effective_part`);
/// extra sources stay as they are, because all of theirs counts for opam 2.1 and older.
pub fn strengthen(file: &OpamFile, digests: &Digests) -> Option<Bytes> {
    let main = |file: &OpamFile| {
        let sources = archive_sources(file).ok()?;
        sources.into_iter().find(|source| source.role == Role::Main)
    };
    let before = main(file)?.checksums;
    if before.strength() != Strength::Weak || !before.all_match(digests) {
        return None;
    }
    let strong = [Checksum::Sha256(digests.sha256), Checksum::Sha512(digests.sha512)];
    let field = file.sections("url").next()?.fields("checksum").next()?;
    let last = elements(&field.value).last()?.span;
    let blank = blank_before(&file.to_bytes(), last);
    let written: String =
        strong.iter().map(|checksum| format!("{blank}{}", quoted(&checksum.to_string()))).collect();
    let (start, end) = (field.value.span.start, last.end);
    let at = |offset| Span { start: offset, end: offset };
    let edited = match field.value.kind {
        ValueKind::List(_) => file.spliced([(at(end), written.as_str())]),
        _ => file.spliced([(at(start), "["), (at(end), format!("{written}]").as_str())]),
    };
    let edited = edited.ok()?;
    let after = main(&edited)?.checksums;
    let is_as_meant = after.as_slice() == [before.as_slice(), &strong].concat();
    is_as_meant.then(|| edited.to_bytes())
}

/// What parts a value from the one before it: the blanks that lead its line, or one space.
fn blank_before(source: &[u8], value: Span) -> String {
    let before = source.get(..value.start).unwrap_or_default();
    let blanks: Vec<u8> =
        before.iter().rev().take_while(|byte| matches!(byte, b' ' | b'\t')).copied().collect();
    match before.get(..before.len() - blanks.len()) {
        Some([.., b'\n']) => {
            let blanks = blanks.into_iter().rev().map(char::from);
            std::iter::once('\n').chain(blanks).collect()
        }
        _ => " ".to_owned(),
    }
}
