//! Opam files whose archives come from the mirror itself, whatever it has.

use super::{
    ARCHIVE_FIELDS, Role, archive_url, elements, legacy_pair, pairs, safe_name, safe_path,
    section_source,
};
use crate::digest::Sha256;
use crate::opam::Package;
use crate::opam::syntax::{Item, OpamFile, Section, Span, Text, Value, ValueKind, quoted};
use bytes::Bytes;
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
            edits.extend(self.section(&file, section, package, Role::Main)?);
        }
        if extra == ExtraSources::Rewritten {
            for section in file.sections("extra-source") {
                let label = section.label.as_ref().ok_or(Unreadable)?;
                let path = safe_path("extra-source", label).map_err(|_| Unreadable)?;
                edits.extend(self.section(&file, section, package, Role::Extra(path))?);
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
        format!("archive/{name}/{}", file_name(was))
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
        role: Role,
    ) -> Result<Vec<(Span, String)>, Unreadable> {
        let places = |names: &'static [&str]| {
            section.items.iter().filter_map(move |item| match item {
                Item::Field(field) if names.iter().any(|name| field.name == **name) => Some(field),
                _ => None,
            })
        };
        let source = section_source(role, section).map_err(|_| Unreadable)?;
        let Some(was) = source.urls.iter().find(|url| Url::parse(url).is_ok()) else {
            // What is version control or a path stays, alone; whatever else a client would fetch
            // is not known here.
            let mut values = places(&ARCHIVE_FIELDS).flat_map(|field| elements(&field.value));
            if values.any(|value| !texts_of(value).is_some_and(is_no_archive)) {
                return Err(Unreadable);
            }
            let mirrors = places(&["mirrors"]).map(|field| file.whole_lines(field.span));
            return Ok(mirrors.map(|span| (span, String::new())).collect());
        };
        let mut places = places(&PLACES);
        let Some(first) = places.next() else { return Err(Unreadable) };
        // Under today's name: clients read `archive` and `http` as the same.
        let written = format!("src: {}", quoted(&self.url(package, &source.role, was)));
        let mut edits = vec![(first.span, written)];
        edits.extend(places.map(|field| (file.whole_lines(field.span), String::new())));
        Ok(edits)
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
            let path = safe_name("extra-sources", name).ok()?;
            let role = Role::Extra(path.clone());
            let (span, is_named) = match &pair.first()?.kind {
                ValueKind::Option { value, .. } => (value.span, true),
                _ => (pair.first()?.span, false),
            };
            match archive_url("extra-sources", url).ok()? {
                Some(was) => {
                    let url = self.url(package, &role, &was);
                    let keeps_name = is_named || url.rsplit('/').next() == Some(path.as_str());
                    let mut written = quoted(&url);
                    // Without a name the file is called as the URL ends, and that is another end.
                    if !keeps_name {
                        written += &format!(" {{{}}}", quoted(path.as_str()));
                    }
                    edits.push((span, written));
                }
                None if is_no_archive(url) => {}
                None => return None,
            }
        }
        Some(edits)
    }
}

/// What a mirror calls an archive: `NAME.VERSION`, or `NAME.VERSION/extra-source/ID`, where the ID is
/// the beginning of the SHA-256 of its path: paths can be below one another, names on a mirror not.
pub fn source_name(package: &Package, role: &Role) -> String {
    let Role::Extra(path) = role else { return package.to_string() };
    let hash = Sha256::of(path.as_str().as_bytes()).to_string();
    format!("{package}/{EXTRA_SOURCE}/{}", hash.get(..ID).unwrap_or_default())
}

/// Whether a source is one that clients fetch by version control or copy from a path; anything else
/// they may hand to curl.
fn is_no_archive(text: &Text) -> bool {
    let Some(text) = text.as_str() else { return false };
    let by_scheme = NO_ARCHIVES.iter().any(|scheme| text.starts_with(scheme));
    by_scheme || !text.contains("://")
}

fn texts_of(value: &Value) -> Option<&Text> {
    match &value.kind {
        ValueKind::Option { value, .. } => super::string(value),
        _ => super::string(value),
    }
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
    let name: String = last.unwrap_or("archive").chars().map(plain).collect();
    // That is where extra sources are.
    if name == EXTRA_SOURCE { "archive".to_owned() } else { name }
}

/// Every field that says where a source is to be had.
const PLACES: [&str; 8] = ["src", "archive", "http", "git", "hg", "darcs", "local", "mirrors"];
/// Longest file name that is kept, in bytes.
const MAX_FILE_NAME: usize = 200;
/// What begins a source that is no archive (`opamUrl.ml`).
const NO_ARCHIVES: [&str; 10] = [
    "git+", "hg+", "darcs+", "git://", "hg://", "darcs://", "ssh://", "rsync://", "file://",
    "path://",
];
/// Where extra sources are, below a package's archive.
pub const EXTRA_SOURCE: &str = "extra-source";
/// How many digits tell the extra sources of one version apart.
const ID: usize = 16;
