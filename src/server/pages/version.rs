//! One version of a package.

use super::shown::{DiffLine, Moment, bytes, diff_lines};
use super::{Frame, written};
use crate::keeper::browse::{ArchiveDetails, BrowseError, Dependent, VersionDetails};
use crate::keeper::divergences::Recorded;
use crate::ledger::entry::DivergenceKind;
use crate::opam::Package;
use crate::server::Server;
use crate::server::body::Body;
use askama::Template;
use http::Response;
use jiff::Timestamp;

#[derive(Template)]
#[template(path = "version.html", config = "src/server/askama.toml")]
struct Version {
    frame: Frame,
    version: VersionDetails,
    /// The home page, where a browser may be sent there.
    homepage: Option<String>,
    archives: Vec<Archive>,
    edits: Vec<Edit>,
}

struct Archive {
    declared: ArchiveDetails,
    pinned: Option<Pinned>,
    /// Why it could not be had, in words.
    why_not: Option<String>,
    /// What came in its place.
    divergences: Vec<(u64, DivergenceKind)>,
}

struct Pinned {
    at: Moment,
    size: String,
}

struct Edit {
    entry: u64,
    at: Moment,
    lines: Vec<DiffLine>,
    more: usize,
}

pub(super) async fn page(
    server: &Server,
    frame: Frame,
    repository: &str,
    package: &Package,
) -> Result<Response<Body>, BrowseError> {
    let mut version = server.keeper.version(repository, package).await?;
    let now = server.clock.now();
    let archives = std::mem::take(&mut version.archives).into_iter();
    let archives = archives.map(|declared| archive(declared, &version.divergences, now)).collect();
    let edits = std::mem::take(&mut version.edits).into_iter().map(|edit| {
        let (lines, more) = diff_lines(&edit.diff);
        Edit { entry: edit.entry, at: Moment::new(edit.at, now), lines, more }
    });
    let edits = edits.collect();
    let is_web = |url: &String| url.starts_with("https://") || url.starts_with("http://");
    let homepage = version.homepage.clone().filter(is_web);
    written(&Version { frame, version, homepage, archives, edits })
}

fn archive(declared: ArchiveDetails, recorded: &[Recorded], now: Timestamp) -> Archive {
    let pinned = declared
        .pin
        .as_ref()
        .map(|it| Pinned { at: Moment::new(it.pin.at, now), size: bytes(it.pin.size) });
    let is_of_it = |it: &&Recorded| {
        let mut urls = [Some(&it.divergence.url), it.divergence.src.as_ref()].into_iter().flatten();
        !it.divergence.what.is_of_metadata() && urls.any(|url| declared.urls.contains(url))
    };
    let divergences = recorded.iter().filter(is_of_it).map(|it| (it.id, it.divergence.what));
    let divergences = divergences.collect();
    // The word before it is for programs.
    let why_not = declared.problem.as_deref();
    let why_not = why_not.map(|it| it.split_once("; ").map_or(it, |(_, words)| words).to_owned());
    Archive { declared, pinned, why_not, divergences }
}

/// What a dependency says beside the name.
fn condition(dependency: &Dependent) -> &str {
    let Dependent { name, text, .. } = dependency;
    let after = text.strip_prefix('"').and_then(|text| text.strip_prefix(name.as_str()));
    after.and_then(|text| text.strip_prefix('"')).map_or(text.as_str(), str::trim_start)
}
