//! Opam files whose archives come from the mirror itself, whatever it has.

use super::{
    ARCHIVE_FIELDS, Role, archive_url, elements, legacy_pair, pairs, safe_name, safe_path,
};
use crate::opam::Package;
use crate::opam::syntax::{Item, OpamFile, Section, Span, Text, ValueKind, quoted};
use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

/// Where rewritten sources point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// The repository's place on the mirror, which ends with `/`.
    base: String,
}

/// What becomes of extra sources.
///
/// opam 2.1 and older take all that an extra source says for what the package is, and would
/// rebuild it; later ones and dune look at the first checksum alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtraSources {
    /// They point to the mirror as well.
    Rewritten,
    /// They stay as they are; those clients still ask the mirror's cache for them first.
    AsDeclared,
}

/// A file that can't be read can't be rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it can't be read, so its sources can't be rewritten")]
pub struct Unreadable;

impl Rewrite {
    /// Sources below `base`, a repository's place on the mirror.
    pub fn new(base: &str) -> Self {
        Self { base: format!("{}/", base.trim_end_matches('/')) }
    }

    /// The place, which ends with `/`.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The file with one source for each archive, on the mirror; `None` where it declares none.
    ///
    /// A source ends as it did before, because clients tell formats by that. Sources that are no
    /// archives stay as they are.
    ///
    /// # Errors
    /// When the file can't be read, so that other clients might find a source in it.
    pub fn apply(
        &self,
        package: &Package,
        opam: &[u8],
        extra: ExtraSources,
    ) -> Result<Option<Bytes>, Unreadable> {
        let file = OpamFile::parse(opam).map_err(|_| Unreadable)?;
        let mut edits = Vec::new();
        for section in file.sections("url") {
            edits.extend(self.section(&file, section, package, &Role::Main));
        }
        if extra == ExtraSources::Rewritten {
            for section in file.sections("extra-source") {
                let label = section.label.as_ref().ok_or(Unreadable)?;
                let path = safe_path("extra-source", label).map_err(|_| Unreadable)?;
                edits.extend(self.section(&file, section, package, &Role::Extra(path)));
            }
            edits.extend(self.legacy_extra_sources(&file, package).ok_or(Unreadable)?);
        }
        if edits.is_empty() {
            return Ok(None);
        }
        edits.sort_by_key(|(span, _)| span.start);
        let edits = edits.iter().map(|(span, text)| (*span, text.as_str()));
        Ok(Some(file.spliced(edits).map_err(|_| Unreadable)?.to_bytes()))
    }

    /// Where an archive of a name, see [`source_name`], is below the base; `was` is its URL.
    pub fn path(name: &str, was: &str) -> String {
        match name.contains('/') {
            true => format!("archive/{name}"),
            false => format!("archive/{name}/{}", file_name(was)),
        }
    }

    fn url(&self, package: &Package, role: &Role, was: &str) -> String {
        format!("{}{}", self.base, Self::path(&source_name(package, role), was))
    }

    /// One field says where the archive is, and all others go.
    fn section(
        &self,
        file: &OpamFile,
        section: &Section,
        package: &Package,
        role: &Role,
    ) -> Vec<(Span, String)> {
        let is_archive = |text: &Text| archive_url("src", text).ok().flatten();
        let first = ARCHIVE_FIELDS.iter().flat_map(|name| section.fields(name)).find_map(|field| {
            let texts = elements(&field.value).iter().filter_map(|value| match &value.kind {
                ValueKind::String(text) => Some(text),
                ValueKind::Option { value, .. } => super::string(value),
                _ => None,
            });
            Some((field, texts.filter_map(is_archive).next()?))
        });
        let Some((first, was)) = first else { return Vec::new() };
        let mut edits = vec![(first.value.span, quoted(&self.url(package, role, &was)))];
        for item in &section.items {
            if let Item::Field(field) = item
                && field.span != first.span
                && field.name.as_str().is_some_and(|name| PLACES.contains(&name))
            {
                edits.push((file.whole_lines(field.span), String::new()));
            }
        }
        edits
    }

    /// `extra-sources: [["url" {"name"} "md5"] …]`, the form before opam 2.0.
    fn legacy_extra_sources(
        &self,
        file: &OpamFile,
        package: &Package,
    ) -> Option<Vec<(Span, String)>> {
        let mut edits = Vec::new();
        for pair in file.fields("extra-sources").flat_map(|field| pairs(&field.value)) {
            let (url, name, _) = legacy_pair(pair)?;
            let role = Role::Extra(safe_name("extra-sources", name).ok()?);
            let span = match &pair.first()?.kind {
                ValueKind::Option { value, .. } => value.span,
                _ => pair.first()?.span,
            };
            if let Some(was) = archive_url("extra-sources", url).ok()? {
                edits.push((span, quoted(&self.url(package, &role, &was))));
            }
        }
        Some(edits)
    }
}

/// What a mirror calls an archive: `NAME.VERSION`, or `NAME.VERSION/extra-source/PATH` with the path
/// percent-encoded.
pub fn source_name(package: &Package, role: &Role) -> String {
    let Role::Extra(path) = role else { return package.to_string() };
    let encoded = |part| utf8_percent_encode(part, &IN_A_SEGMENT).to_string();
    let path: Vec<String> = path.components().map(encoded).collect();
    format!("{package}/extra-source/{}", path.join("/"))
}

/// The file name at the end of a URL, with nothing in it that means anything in a path.
fn file_name(url: &str) -> String {
    let url = Url::parse(url).ok();
    let last = url.as_ref().and_then(|url| url.path_segments()?.next_back());
    let last = last.filter(|name| !name.is_empty() && name.len() <= MAX_FILE_NAME);
    let plain = |c: char| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' | '+' | '~' => c,
        _ => '_',
    };
    last.unwrap_or("archive").chars().map(plain).collect()
}

/// Every field that says where a source is to be had.
const PLACES: [&str; 8] = ["src", "archive", "http", "git", "hg", "darcs", "local", "mirrors"];
/// Longest file name that is kept, in bytes.
const MAX_FILE_NAME: usize = 200;
/// What is written as it is in a segment of a path.
const IN_A_SEGMENT: AsciiSet =
    NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'+');
