//! The archives that an opam file declares (`opamFile.ml`: `URLSyntax`, `OPAMSyntax`).

mod rewrite;
mod strengthen;
#[cfg(test)]
mod tests;

pub use rewrite::{EXTRA_SOURCE, ExtraSources, Rewrite, Unreadable, source_name};
pub use strengthen::strengthen;

use super::checksum::DeclaredChecksums;
use super::path::{PathError, RepoPath};
use super::syntax::{Field, OpamFile, Section, Text, Value, ValueKind};

/// The most archives that one opam file may declare; real files reach 8.
const MAX_SOURCES: usize = 256;
/// The most URLs that one archive may have, mirrors included.
const MAX_URLS: usize = 64;
/// The longest URL, in bytes.
const MAX_URL_LEN: usize = 2048;
/// The most checksums that one archive may have.
const MAX_CHECKSUMS: usize = 32;

/// One archive: where it can be fetched from, and what it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveSource {
    /// What the archive is for.
    pub role: Role,
    /// The `http:` and `https:` URLs: `src` first, then the mirrors in order; at least one.
    pub urls: Vec<String>,
    /// What the file says of its bytes.
    pub checksums: DeclaredChecksums,
}

/// What an archive is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The package's sources, from the `url` section.
    Main,
    /// An extra source, which opam writes to this path below the sources.
    Extra(RepoPath),
}

/// Why the sources of an opam file can't be used: the version must not be admitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// A name that opam takes for a path could lead out of the package's directory.
    #[error("the name {name:?} in '{field}' is not a safe path: {cause}")]
    UnsafePath {
        /// The field or section.
        field: &'static str,
        /// The name as written.
        name: String,
        /// What is wrong with it.
        cause: PathError,
    },
    /// A field whose value is not of the shape that opam reads.
    #[error("'{field}' should be {expected}")]
    Malformed {
        /// The field or section.
        field: &'static str,
        /// What it should have been.
        expected: &'static str,
    },
    /// Two sections where opam allows one, so that it isn't clear which one counts.
    #[error("there are several 'url' sections")]
    SeveralUrls,
    /// More of something than any real file has.
    #[error("there are more than {limit} {what}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        limit: usize,
    },
}

/// Every archive that the file declares, the package's own first.
///
/// Sources that are no archives (version control, local paths, other schemes) are left out.
/// Names that opam takes for paths, in `extra-source`, `extra-files` and `patches`, are checked.
pub fn archive_sources(file: &OpamFile) -> Result<Vec<ArchiveSource>, SourceError> {
    patches(file)?;
    check_extra_files(file)?;
    let mut urls = file.sections("url");
    let main = urls.next().map(|section| (Role::Main, section));
    if urls.next().is_some() {
        return Err(SourceError::SeveralUrls);
    }
    let mut sources = Vec::new();
    for section in file.sections("extra-source") {
        let label = section.label.as_ref().ok_or(SourceError::Malformed {
            field: "extra-source",
            expected: "followed by the name of a file",
        })?;
        sources.push((Role::Extra(safe_path("extra-source", label)?), section));
        bounded(sources.len(), "extra sources", MAX_SOURCES)?;
    }
    let sections = main.into_iter().chain(sources);
    let declared = sections.map(|(role, section)| section_source(role, section));
    let mut archives: Vec<_> = declared.collect::<Result<_, _>>()?;
    archives.extend(legacy_extra_sources(file)?);
    bounded(archives.len(), "sources", MAX_SOURCES)?;
    archives.retain(|archive| !archive.urls.is_empty());
    Ok(archives)
}

/// The files named in `patches`, which opam applies to the sources.
pub fn patches(file: &OpamFile) -> Result<Vec<RepoPath>, SourceError> {
    let mut patches = Vec::new();
    for name in strings(file.fields("patches"), "patches")? {
        patches.push(safe_path("patches", name)?);
    }
    Ok(patches)
}

/// `extra-files: [["path" "md5=…"] …]`, or one such pair alone.
fn check_extra_files(file: &OpamFile) -> Result<(), SourceError> {
    for field in file.fields("extra-files") {
        for pair in pairs(&field.value) {
            let [name, _] = pair else { return Err(MALFORMED_EXTRA_FILES) };
            safe_path("extra-files", string(name).ok_or(MALFORMED_EXTRA_FILES)?)?;
        }
    }
    Ok(())
}

const MALFORMED_EXTRA_FILES: SourceError = SourceError::Malformed {
    field: "extra-files",
    expected: "a list of pairs of a path and a checksum",
};

fn section_source(role: Role, section: &Section) -> Result<ArchiveSource, SourceError> {
    let mut urls = Vec::new();
    for field in ARCHIVE_FIELDS {
        add_urls(&mut urls, section, field)?;
    }
    // Without a `src` that is an archive, the mirrors are not archives either.
    if !urls.is_empty() {
        add_urls(&mut urls, section, "mirrors")?;
    }
    Ok(ArchiveSource { role, urls, checksums: section_checksums(section)? })
}

fn add_urls(
    urls: &mut Vec<String>,
    section: &Section,
    field: &'static str,
) -> Result<(), SourceError> {
    for text in strings(section.fields(field), field)? {
        let url = archive_url(field, text)?.filter(|url| !urls.contains(url));
        urls.extend(url);
        bounded(urls.len(), "URLs of one source", MAX_URLS)?;
    }
    Ok(())
}

/// The fields that name an archive's URL: today's, then the ones of old formats. `git`, `hg`,
/// `darcs` and `local` name no archives.
const ARCHIVE_FIELDS: [&str; 3] = ["src", "archive", "http"];

/// What the section's `checksum` declares; void where clients ignore it.
pub(super) fn section_checksums(section: &Section) -> Result<DeclaredChecksums, SourceError> {
    let mut fields = section.fields("checksum");
    let Some(field) = fields.next() else {
        return Ok(DeclaredChecksums::default());
    };
    if fields.next().is_some() {
        return Ok(DeclaredChecksums::void("'checksum' is there several times"));
    }
    let entries: Option<Vec<&str>> =
        elements(&field.value).iter().map(|value| string(value)?.as_str()).collect();
    bounded(entries.as_ref().map_or(0, Vec::len), "checksums of one source", MAX_CHECKSUMS)?;
    Ok(match entries {
        Some(entries) => DeclaredChecksums::from_entries(entries),
        None => DeclaredChecksums::void("'checksum' holds something other than strings"),
    })
}

/// `extra-sources: [["url" {"name"} "md5"] …]`, the form before opam 2.0; without a name the
/// file is called as the URL ends.
fn legacy_extra_sources(file: &OpamFile) -> Result<Vec<ArchiveSource>, SourceError> {
    let mut sources = Vec::new();
    for pair in file.fields("extra-sources").flat_map(|field| pairs(&field.value)) {
        let (url, name, checksum) = legacy_pair(pair).ok_or(SourceError::Malformed {
            field: "extra-sources",
            expected: "a list of pairs of a URL and a checksum",
        })?;
        sources.push(ArchiveSource {
            role: Role::Extra(safe_name("extra-sources", name)?),
            urls: archive_url("extra-sources", url)?.into_iter().collect(),
            checksums: DeclaredChecksums::from_entries([checksum]),
        });
        bounded(sources.len(), "extra sources", MAX_SOURCES)?;
    }
    Ok(sources)
}

/// The URL, the file's name and the checksum of one old pair.
fn legacy_pair(pair: &[Value]) -> Option<(&Text, &[u8], &str)> {
    let [source, checksum] = pair else { return None };
    let checksum = string(checksum)?.as_str()?;
    let ValueKind::Option { value, options } = &source.kind else {
        let url = string(source)?;
        let name = url.as_bytes().rsplit(|byte| *byte == b'/').next()?;
        return Some((url, name, checksum));
    };
    let [option] = options.as_slice() else { return None };
    let [name] = option.as_slice() else { return None };
    Some((string(value)?, string(name)?.as_bytes(), checksum))
}

/// The URL, if it is one that archives are fetched from.
fn archive_url(field: &'static str, url: &Text) -> Result<Option<String>, SourceError> {
    let malformed = SourceError::Malformed { field, expected: "a URL of at most 2048 bytes" };
    let text = url.as_str().filter(|text| text.len() <= MAX_URL_LEN).ok_or(malformed)?;
    let is_http = text.starts_with("https://") || text.starts_with("http://");
    // The name of a Software Heritage directory in the form of a mirror (`opamSWHID.ml`).
    let is_swhid = text.starts_with("https://swhid.opam.ocaml.org/");
    Ok((is_http && !is_swhid).then(|| text.to_owned()))
}

fn safe_path(field: &'static str, name: &Text) -> Result<RepoPath, SourceError> {
    safe_name(field, name.as_bytes())
}

fn safe_name(field: &'static str, name: &[u8]) -> Result<RepoPath, SourceError> {
    RepoPath::from_name(name).map_err(|cause| {
        let name: String = String::from_utf8_lossy(name).chars().take(80).collect();
        SourceError::UnsafePath { field, name, cause }
    })
}

fn bounded(count: usize, what: &'static str, limit: usize) -> Result<(), SourceError> {
    if count > limit { Err(SourceError::TooMany { what, limit }) } else { Ok(()) }
}

/// The strings of fields that hold one or a list of them; braces behind a string are left out.
fn strings<'a>(
    fields: impl Iterator<Item = &'a Field>,
    name: &'static str,
) -> Result<Vec<&'a Text>, SourceError> {
    let values = fields.flat_map(|field| elements(&field.value));
    let texts = values.map(|value| match &value.kind {
        ValueKind::Option { value, .. } => string(value),
        _ => string(value),
    });
    let malformed = SourceError::Malformed { field: name, expected: "a string or a list of them" };
    texts.collect::<Option<_>>().ok_or(malformed)
}

fn string(value: &Value) -> Option<&Text> {
    match &value.kind {
        ValueKind::String(text) => Some(text),
        _ => None,
    }
}

/// The elements of a list; any other value is a list of itself, as everywhere in the format.
fn elements(value: &Value) -> &[Value] {
    match &value.kind {
        ValueKind::List(values) => values,
        _ => std::slice::from_ref(value),
    }
}

/// The inner lists of a list of lists; a list of other values is the only inner one.
fn pairs(value: &Value) -> Vec<&[Value]> {
    let outer = elements(value);
    match outer.iter().any(|inner| matches!(inner.kind, ValueKind::List(_))) {
        true => outer.iter().map(elements).collect(),
        false if outer.is_empty() => Vec::new(),
        false => vec![outer],
    }
}
