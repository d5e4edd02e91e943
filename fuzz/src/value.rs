//! Small values out of text: what is read prints as what reads back, and shows nothing that is
//! secret.

use opam_keep::digest::Digests;
use opam_keep::opam::{Checksum, DeclaredChecksums, Package, RepoPath};
use opam_keep::package_pattern::PackagePattern;
use opam_keep::safe_url::SafeUrl;
use std::fmt::{Debug, Display};
use std::str::FromStr;

/// A checksum, path, package, pattern or URL.
pub fn value(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(checksum) = read_back::<Checksum>(text) {
        assert_eq!(Checksum::from_hex(checksum.kind(), &checksum.hex()), Ok(checksum));
        assert_eq!(checksum.hex().len(), checksum.kind().hex_len());
    }
    let declared = DeclaredChecksums::from_entries(text.split_whitespace());
    assert!(declared.voided().is_none() || declared.as_slice().is_empty());
    let _ = declared.all_match(&Digests::of(bytes));
    if let Some(path) = read_back::<RepoPath>(text) {
        assert_eq!(path.as_str(), text);
        assert!(path.components().all(|name| !matches!(name, "" | "." | "..")));
    }
    if let Some(package) = read_back::<Package>(text) {
        assert_eq!(package.to_string(), text);
        let pattern: PackagePattern = text.parse().expect("a package is a pattern");
        assert!(pattern.matches(text));
    }
    if let Ok(pattern) = text.parse::<PackagePattern>() {
        assert_eq!(pattern.as_str(), text);
        // Stars may stand for nothing.
        assert!(!pattern.has_star() || pattern.matches(&text.replace('*', "")));
    }
    if let Ok(url) = text.parse::<SafeUrl>() {
        let shown: SafeUrl = url.to_string().parse().expect("what is shown is a URL");
        let exposed = shown.expose();
        assert!(exposed.username().is_empty() && exposed.password().is_none());
        // Spaces at the end of a path that is no path go with the fragment behind them.
        assert!(url.expose().cannot_be_a_base() || exposed.path() == url.expose().path());
    }
}

fn read_back<T>(text: &str) -> Option<T>
where
    T: FromStr<Err: Debug> + Display + Debug + PartialEq,
{
    let value: T = text.parse().ok()?;
    assert_eq!(value.to_string().parse::<T>().expect("what is printed reads back"), value);
    Some(value)
}
