//! Each kind of source, from a real one of its kind.

use super::{Fetched, FileKind, LocalGit, RawFile, RepositoryError, RepositorySource, Revision};
use crate::config;
use crate::safe_url::SafeUrl;
use crate::upstream::tests::server::{Script, TestAuthority, TestServer, ok, redirect, status};
use crate::upstream::tests::{client, config, config_for};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

struct Source {
    source: RepositorySource,
    /// What the source keeps for itself lies in `a/b` below it.
    directory: tempfile::TempDir,
}

fn source(url: &str, upstream: &config::Upstream) -> Source {
    let directory = tempfile::tempdir().unwrap();
    let repository = config::Repository {
        name: "default".parse().unwrap(),
        upstream: toml::Spanned::new(0..0, url.parse().unwrap()),
        refresh: Duration::from_secs(1).into(),
        mode: config::Mode::Managed,
        rewrite_sources: toml::Spanned::new(0..0, false),
    };
    let source =
        RepositorySource::new(&repository, &client(upstream), &directory.path().join("a/b"));
    Source { source: source.unwrap(), directory }
}

impl Source {
    async fn fetch(&self, known: Option<&Revision>) -> Result<Fetched, RepositoryError> {
        self.source.fetch(known).await
    }

    async fn files(&self, known: Option<&Revision>) -> (Vec<RawFile>, Revision) {
        match self.fetch(known).await.unwrap() {
            Fetched::Files { files, revision } => (files, revision),
            other => panic!("{other:?}"),
        }
    }
}

/// A checkout with a symlink, a file elsewhere and one package.
fn checkout() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let package = directory.path().join("packages/a/a.1");
    fs::create_dir_all(&package).unwrap();
    fs::write(package.join("opam"), "opam-version: \"2.0\"\n").unwrap();
    symlink("../a.1/opam", package.join("link")).unwrap();
    fs::write(directory.path().join("repo"), "opam-version: \"2.0\"\n").unwrap();
    fs::write(directory.path().join("README"), "not a part of it\n").unwrap();
    directory
}

fn assert_checkout(files: &[RawFile]) {
    let seen: Vec<_> = files
        .iter()
        .map(|file| (String::from_utf8_lossy(&file.path), file.kind, file.bytes.len()))
        .collect();
    assert_eq!(
        seen,
        [
            ("packages/a/a.1/link".into(), FileKind::Symlink, 11),
            ("packages/a/a.1/opam".into(), FileKind::Regular, 20),
            ("repo".into(), FileKind::Regular, 20),
        ]
    );
}

fn git(directory: &Path, arguments: &[&str]) {
    let status = git_command(directory, arguments).status().unwrap();
    assert!(status.success(), "{arguments:?}");
}

fn git_command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("git");
    command
        .args(["-c", "user.name=a", "-c", "user.email=a@b.example", "-c", "gc.auto=0"])
        .args(arguments)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null");
    command
}

fn committed_checkout() -> tempfile::TempDir {
    let directory = checkout();
    git(directory.path(), &["init", "--quiet", "--initial-branch=main"]);
    commit(directory.path());
    directory
}

fn commit(directory: &Path) {
    git(directory, &["add", "--all"]);
    git(directory, &["commit", "--quiet", "--message=x"]);
}

#[tokio::test]
async fn http_gives_the_index_as_sent_and_then_only_changes() {
    let server = TestServer::start(|head| {
        if head.contains("if-none-match: \"v1\"\r\n") {
            status("304 Not Modified")
        } else {
            "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Length: 5\r\n\r\nbytes".into()
        }
    })
    .await;
    for path in ["", "/", "/sub", "/sub/"] {
        let source = source(&server.url(path), &config());
        let Fetched::Index { bytes, revision } = source.fetch(None).await.unwrap() else {
            panic!("not an index");
        };
        assert_eq!((&bytes[..], revision.as_str()), (&b"bytes"[..], "etag:\"v1\""));
        let kept = Revision::from_text(revision.as_str());
        assert!(matches!(source.fetch(Some(&kept)).await.unwrap(), Fetched::Unchanged));
        let path = format!("get {}/index.tar.gz http/1.1", path.trim_end_matches('/'));
        assert!(server.heads().last().unwrap().starts_with(&path));
    }
}

#[tokio::test]
async fn http_without_validators_is_known_by_its_bytes() {
    let server = TestServer::start(|_| ok("bytes")).await;
    let source = source(&server.url(""), &config());
    let Fetched::Index { revision, .. } = source.fetch(None).await.unwrap() else {
        panic!("not an index");
    };
    assert!(revision.as_str().starts_with("sha256:"), "{revision}");
    assert!(matches!(source.fetch(Some(&revision)).await.unwrap(), Fetched::Unchanged));
    let other = Revision::from_text("etag:\"of another upstream\"");
    assert!(matches!(source.fetch(Some(&other)).await.unwrap(), Fetched::Index { .. }));
}

#[tokio::test]
async fn adirectory_gives_its_files_and_then_only_changes() {
    let checkout = checkout();
    let url = format!("file://{}", checkout.path().display());
    let source = source(&url, &config());
    let (files, revision) = source.files(None).await;
    assert_checkout(&files);
    assert!(matches!(source.fetch(Some(&revision)).await.unwrap(), Fetched::Unchanged));
    fs::write(checkout.path().join("README"), "still not a part of it\n").unwrap();
    assert!(matches!(source.fetch(Some(&revision)).await.unwrap(), Fetched::Unchanged));
    fs::write(checkout.path().join("packages/new"), "").unwrap();
    let (files, changed) = source.files(Some(&revision)).await;
    assert_eq!(files.len(), 4);
    assert_ne!(revision, changed);
}

#[tokio::test]
async fn adirectory_that_is_missing_or_has_no_bottom_is_an_error_that_names_it() {
    let checkout = checkout();
    let missing = source(&format!("file://{}/missing", checkout.path().display()), &config());
    let error = missing.fetch(None).await.unwrap_err().to_string();
    assert!(error.contains("/missing: No such file"), "{error}");

    let deep: PathBuf = std::iter::repeat_n("d", 40).collect();
    fs::create_dir_all(checkout.path().join("packages").join(deep)).unwrap();
    let source = source(&format!("file://{}", checkout.path().display()), &config());
    let error = source.fetch(None).await.unwrap_err().to_string();
    assert!(error.contains("more than 32 directories"), "{error}");
}

#[tokio::test]
async fn a_watcheddirectory_tells_of_changes_and_not_of_readers() {
    let checkout = checkout();
    let source = source(&format!("file://{}", checkout.path().display()), &config());
    let mut watch = source.source.watch().unwrap();
    fs::write(checkout.path().join("packages/a/a.1/new"), "new").unwrap();
    let patience = Duration::from_secs(10);
    tokio::time::timeout(patience, watch.changed()).await.unwrap();
    source.files(None).await;
    let quiet = Duration::from_millis(300);
    assert!(tokio::time::timeout(quiet, watch.changed()).await.is_err());
}

#[tokio::test]
async fn git_gives_a_commits_files_and_then_only_changes() {
    let checkout = committed_checkout();
    git(checkout.path(), &["tag", "--annotate", "--message=x", "v1"]);
    let url = format!("git+file://{}", checkout.path().display());
    let head = source(&url, &config());
    let (files, first) = head.files(None).await;
    assert_checkout(&files);
    assert_eq!(first.as_str().len(), 40);
    assert!(matches!(head.fetch(Some(&first)).await.unwrap(), Fetched::Unchanged));

    fs::write(checkout.path().join("packages/new"), "").unwrap();
    commit(checkout.path());
    let (files, second) = head.files(Some(&first)).await;
    assert_eq!(files.len(), 4);
    assert_ne!(first, second);

    for (fragment, expected) in [("main", &second), ("v1", &first), (first.as_str(), &first)] {
        let at = source(&format!("{url}#{fragment}"), &config());
        assert_eq!(&at.files(None).await.1, expected, "{fragment}");
        assert!(matches!(at.fetch(Some(expected)).await.unwrap(), Fetched::Unchanged));
    }
    let error = source(&format!("{url}#gone"), &config()).fetch(None).await.unwrap_err();
    assert!(error.to_string().ends_with("there is no branch or tag named gone"), "{error}");
}

#[tokio::test]
async fn g5_trees_that_name_each_other_many_times_are_given_up_early() {
    let checkout = committed_checkout();
    let ask = |arguments: &[&str], input: &str| {
        let mut command = git_command(checkout.path(), arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap().trim().to_owned()
    };
    let mktree = |listing: &str| ask(&["mktree"], listing);
    let blob = ask(&["rev-parse", "HEAD:repo"], "");
    let files: String = (0..10).map(|name| format!("100644 blob {blob}\t{name}\n")).collect();
    // Ten million files, or a million directories; git prints none of those by itself.
    for (innermost, what) in [(files.as_str(), "files"), ("", "directories")] {
        let tree = (0..6).fold(mktree(innermost), |tree, _| {
            let names = (0..10).map(|name| format!("040000 tree {tree}\t{name}\n"));
            mktree(&names.collect::<String>())
        });
        let root = mktree(&format!("040000 tree {tree}\tpackages\n"));
        // An index would name each of them.
        let commit = ask(&["commit-tree", "-m", "x", &root], "");
        git(checkout.path(), &["update-ref", "refs/heads/main", &commit]);
        let reason = format!("more than 500000 {what}");
        let local = LocalGit::open(checkout.path()).unwrap();
        let error = local.files(&local.commit("HEAD").unwrap()).unwrap_err().to_string();
        assert_eq!(error, format!("{}: {reason}", checkout.path().display()));
        let url = format!("git+file://{}", checkout.path().display());
        let error = source(&url, &config()).fetch(None).await.unwrap_err().to_string();
        assert_eq!(error, format!("{url}: {reason}"));
    }
}

#[tokio::test]
async fn a_damaged_local_repository_heals() {
    let checkout = committed_checkout();
    let source = source(&format!("git+file://{}", checkout.path().display()), &config());
    let (_, revision) = source.files(None).await;
    let packs = source.directory.path().join("a/b/repository/objects/pack");
    for file in fs::read_dir(packs).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    let mut outcome = source.fetch(None).await;
    if outcome.is_err() {
        outcome = source.fetch(None).await;
    }
    let Fetched::Files { files, revision: again } = outcome.unwrap() else { panic!("no files") };
    assert_checkout(&files);
    assert_eq!(revision, again);
}

#[tokio::test]
async fn git_that_is_not_there_is_an_error_that_says_what_git_said() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("git+file://{}/nothing", directory.path().display());
    let error = source(&url, &config()).fetch(None).await.unwrap_err().to_string();
    assert!(error.contains("git ls-remote failed"), "{error}");
    assert!(!error.contains('\n'), "{error}");
}

/// Serves what is below `root` with git's own CGI program.
async fn serve_git(authority: &TestAuthority, root: &Path) -> TestServer {
    let root = root.to_owned();
    TestServer::start_tls(authority, &["git.example"], move |request| {
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        let mut line = head.split([' ', '\r']);
        let method = line.next().unwrap().to_ascii_uppercase();
        let target = line.next().unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut backend = Command::new("git")
            .arg("http-backend")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_HTTP_EXPORT_ALL", "1")
            .env("GIT_PROTOCOL", "version=2")
            .env("GIT_PROJECT_ROOT", &root)
            .env("REQUEST_METHOD", method)
            .env("PATH_INFO", path)
            .env("QUERY_STRING", query)
            .env("CONTENT_TYPE", "application/x-git-upload-pack-request")
            .env("CONTENT_LENGTH", body.len().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        backend.stdin.take().unwrap().write_all(body.as_bytes()).unwrap();
        let answer = backend.wait_with_output().unwrap().stdout;
        Script::default().send("HTTP/1.1 200 OK\r\n").send(answer)
    })
    .await
}

#[tokio::test]
async fn git_over_https_trusts_the_extra_authority_and_goes_only_where_it_is_told() {
    let checkout = committed_checkout();
    let authority = TestAuthority::new();
    let server = serve_git(&authority, checkout.path()).await;
    let upstream = config_for(&authority, &[("git.example", server.address)]);
    let source = source("git+https://user:secret@git.example/.git#main", &upstream);
    let (files, revision) = source.files(None).await;
    assert_checkout(&files);
    assert!(matches!(source.fetch(Some(&revision)).await.unwrap(), Fetched::Unchanged));
    for head in server.heads() {
        // base64 of user:secret, in lower case
        assert!(head.contains("\r\nauthorization: basic dxnlcjpzzwnyzxq=\r\n"), "{head}");
    }
    let kept = fs::read_to_string(source.directory.path().join("a/b/repository/config"));
    assert!(!kept.unwrap().contains("secret"));
}

#[tokio::test]
async fn g6_git_follows_no_redirect_and_dials_no_inner_address() {
    let authority = TestAuthority::new();
    let inner = TestServer::start_tls(&authority, &["127.0.0.1"], |_| ok("")).await;
    let target = format!("https://{}/x", inner.address);
    let outer = TestServer::start_tls(&authority, &["git.example"], move |_| redirect(&target));
    let outer = outer.await;
    let upstream = config_for(&authority, &[("git.example", outer.address)]);
    let error = source("git+https://git.example/x", &upstream).fetch(None).await.unwrap_err();
    assert!(error.to_string().contains("git ls-remote failed"), "{error}");
    assert_eq!(outer.heads().len(), 1);

    for host in ["localhost", "127.0.0.1", "[::ffff:127.0.0.1]", "0x7f.1"] {
        let url = format!("git+https://{host}:{}/x", inner.address.port());
        let error = source(&url, &upstream).fetch(None).await.unwrap_err();
        assert!(matches!(error, RepositoryError::Resolve { .. }), "{host}: {error}");
    }
    assert!(inner.heads().is_empty());
}

#[tokio::test]
async fn git_over_https_goes_through_the_proxy() {
    let proxy = TestServer::start(|_| status("403 Forbidden")).await;
    let url = format!("http://user:secret@{}", proxy.address);
    let upstream = config::Upstream { proxy: Some(url.parse().unwrap()), ..config() };
    let error = source("git+https://git.example/x", &upstream).fetch(None).await.unwrap_err();
    assert!(!error.to_string().contains("secret"), "{error}");
    let head = proxy.heads().remove(0);
    assert!(head.starts_with("connect git.example:443 "), "{head}");
    assert!(head.contains("proxy-authorization: basic dxnlcjpzzwnyzxq=\r\n"), "{head}");
}

#[tokio::test]
async fn g5_a_git_that_waits_for_ever_is_stopped_with_all_its_children() {
    let authority = TestAuthority::new();
    let server =
        TestServer::start_tls(&authority, &["git.example"], |_| Script::default().stall()).await;
    let timeout = Duration::from_millis(100).into();
    let names = [("git.example", server.address)];
    let upstream = config::Upstream { timeout, ..config_for(&authority, &names) };
    let error = source("git+https://git.example/x", &upstream).fetch(None).await.unwrap_err();
    assert!(matches!(error, RepositoryError::GitTimedOut { .. }), "{error}");

    let marker = format!("git.example:{}", server.address.port());
    let is_running = || {
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let mut lines = processes.filter_map(|one| fs::read(one.path().join("cmdline")).ok());
        lines.any(|line| String::from_utf8_lossy(&line).contains(&marker))
    };
    for _ in 0..100 {
        if !is_running() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("a child of git outlived it");
}

#[test]
fn urls_that_can_be_no_source_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    for url in ["ftp://a.example", "git+https:///", "git+https://a.example#-x"] {
        let url: SafeUrl = url.parse().unwrap();
        let repository = config::Repository {
            name: "default".parse().unwrap(),
            upstream: toml::Spanned::new(0..0, url.clone()),
            refresh: Duration::from_secs(1).into(),
            mode: config::Mode::Managed,
            rewrite_sources: toml::Spanned::new(0..0, false),
        };
        let made = RepositorySource::new(&repository, &client(&config()), directory.path());
        assert!(matches!(made, Err(RepositoryError::UnusableUrl { .. })), "{url}");
    }
}
