//! Whom to ask for an archive, in which order.

use super::Keeper;
use crate::opam::Checksum;
use crate::opam::syntax::{OpamFile, Value, ValueKind};
use crate::store::catalog::DeclaredArchive;
use url::Url;

/// Who is asked for an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// All who may have it.
    Sources,
    /// One cache alone.
    Cache(Url),
}

/// The repository's own caches first, then `src`, then `mirrors`, then the configured caches.
///
/// Caches are asked under the strongest declared checksum.
pub(super) fn in_order(
    keeper: &Keeper,
    repository: &str,
    archive: &DeclaredArchive,
    asked: &Asked,
) -> Vec<Url> {
    let strongest = archive.checksums.iter().max_by_key(|checksum| checksum.kind());
    if let Asked::Cache(cache) = asked {
        return strongest.map(|checksum| cached(cache, checksum)).into_iter().collect();
    }
    let repository = keeper.repository(repository).and_then(|repository| repository.served());
    let own = repository.iter().flat_map(|served| &served.caches);
    let configured = keeper.caches.iter();
    let in_cache = |cache: &Url| strongest.map(|checksum| cached(cache, checksum));
    let mut sources: Vec<Url> = own.filter_map(in_cache).collect();
    sources.extend(archive.urls.iter().filter_map(|url| Url::parse(url).ok()));
    sources.extend(configured.filter_map(in_cache));
    let mut seen = Vec::new();
    sources.retain(|source| {
        let new = !seen.contains(source);
        seen.push(source.clone());
        new
    });
    sources
}

/// The caches that upstream's `repo` file names, resolved as opam does: with a scheme absolute, with
/// a leading `/` from the host's root, otherwise below the repository.
pub(super) fn caches_of(upstream: &Url, repo: &[u8]) -> Vec<Url> {
    let Ok(file) = OpamFile::parse(repo) else { return Vec::new() };
    let mirrors = file.field("archive-mirrors").map(|field| strings(&field.value));
    let base = upstream.as_str().trim_end_matches('/');
    let resolve = |mirror: String| match () {
        () if mirror.contains("://") => Url::parse(&mirror).ok(),
        () if mirror.starts_with('/') => upstream.join(&mirror).ok(),
        () => Url::parse(&format!("{base}/{mirror}")).ok(),
    };
    let fetchable = |url: &Url| matches!(url.scheme(), "http" | "https");
    mirrors.into_iter().flatten().filter_map(resolve).filter(fetchable).take(MAX_CACHES).collect()
}

fn strings(value: &Value) -> Vec<String> {
    let values = match &value.kind {
        ValueKind::List(values) => &values[..],
        _ => std::slice::from_ref(value),
    };
    let text = |value: &Value| match &value.kind {
        ValueKind::String(text) => text.as_str().map(str::to_owned),
        _ => None,
    };
    values.iter().filter_map(text).collect()
}

/// Where a cache keeps an archive, as opam lays caches out.
pub(super) fn cached(cache: &Url, checksum: &Checksum) -> Url {
    let hex = checksum.hex();
    let mut url = cache.clone();
    let path = url.path().trim_end_matches('/');
    let path = format!("{path}/{}/{}/{hex}", checksum.kind(), &hex[..2]);
    url.set_path(&path);
    url
}

/// Most caches of a `repo` file that are asked.
const MAX_CACHES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_of_a_repo_file_are_resolved_as_opam_does() {
        let repo = br#"opam-version: "2.0"
archive-mirrors: ["cache" "/other" "https://host.example/c/" "git+https://x.example/c"]"#;
        let caches = |upstream: &str| -> Vec<String> {
            let caches = caches_of(&upstream.parse().unwrap(), repo);
            caches.iter().map(Url::to_string).collect()
        };
        for upstream in ["https://opam.example/r", "https://opam.example/r/"] {
            assert_eq!(
                caches(upstream),
                [
                    "https://opam.example/r/cache",
                    "https://opam.example/other",
                    "https://host.example/c/"
                ]
            );
        }
        assert_eq!(caches("file:///checkout"), ["https://host.example/c/"]);
        assert!(caches_of(&"https://x.example".parse().unwrap(), b"archive-mirrors: [").is_empty());
    }

    #[test]
    fn caches_are_laid_out_as_opam_does() {
        let checksum: Checksum = format!("md5={}", "AB".repeat(16)).parse().unwrap();
        let expected = format!("https://host.example/cache/md5/ab/{}", "ab".repeat(16));
        for base in ["https://host.example/cache", "https://host.example/cache/"] {
            assert_eq!(cached(&base.parse().unwrap(), &checksum).as_str(), expected);
        }
    }
}
