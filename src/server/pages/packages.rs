//! Packages: a search, and one package's versions.

use super::address::encoded;
use super::{Frame, Pager, written};
use crate::keeper::browse::{BrowseError, PackageDetails, PackageHit};
use crate::opam::PackageName;
use crate::server::Server;
use crate::server::body::Body;
use askama::Template;
use http::Response;

#[derive(Template)]
#[template(path = "packages.html", config = "src/server/askama.toml")]
struct Packages {
    frame: Frame,
    query: String,
    repository: Option<String>,
    repositories: Vec<String>,
    hits: Vec<PackageHit>,
    pager: Pager,
}

#[derive(Template)]
#[template(path = "package.html", config = "src/server/askama.toml")]
struct Package {
    frame: Frame,
    package: PackageDetails,
}

pub(super) async fn search(
    server: &Server,
    frame: Frame,
    repository: Option<String>,
    query: String,
    page: usize,
) -> Result<Response<Body>, BrowseError> {
    let found = server.keeper.search(repository.as_deref(), &query, page).await?;
    let of =
        repository.as_ref().map_or(String::new(), |name| format!("&repository={}", encoded(name)));
    let link = |number| format!("/packages?q={}{of}&page={number}", encoded(&query));
    let pager = Pager::new(page, found.total, link);
    let names = server.keeper.repositories().iter().map(|it| it.name().to_owned());
    let repositories = names.collect();
    written(&Packages { frame, query, repository, repositories, hits: found.packages, pager })
}

pub(super) async fn package(
    server: &Server,
    frame: Frame,
    repository: &str,
    name: &PackageName,
) -> Result<Response<Body>, BrowseError> {
    let package = server.keeper.package(repository, name).await?;
    written(&Package { frame, package })
}
