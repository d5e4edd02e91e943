//! A repository that lies in git, near or far, fetched with the git program.
//!
//! git dials by itself, so it is told exactly where to: the host's address is resolved and
//! judged here and handed to it, redirects are off, and no other protocol is open to it.

use super::files::{Collector, MAX_FILES, MAX_SIZE};
use super::git_program::{Bounds, Git, size_of};
use super::git_reference::Reference;
use super::git_tree::{Listing, Unreadable, collect_blobs, is_object_name};
use super::{Fetched, RepositoryError, Revision};
use crate::safe_url::SafeUrl;
use crate::upstream::ResolveError;
use crate::upstream::client::Reach;
use crate::upstream::proxy::basic_authorization;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard, OnceCell};
use url::Url;

/// Fetches one commit's files.
#[derive(Debug)]
pub(super) struct GitSource {
    /// As configured.
    url: Box<SafeUrl>,
    /// The same for git: without `git+`, credentials and fragment.
    remote: Url,
    reference: Reference,
    reach: Reach,
    directory: PathBuf,
    version: OnceCell<()>,
    /// One fetch at a time: they share the local repository.
    turn: Mutex<()>,
    /// The same for the one that has the history.
    history_turn: Mutex<()>,
}

/// The local repositories, each in a directory of its own, so that a long fetch of history keeps
/// no refresh waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Local {
    /// Whole states, without history.
    States,
    /// All commits, without files.
    History,
}

impl GitSource {
    pub(super) fn new(
        url: &SafeUrl,
        reach: &Reach,
        directory: &Path,
    ) -> Result<Self, RepositoryError> {
        let url = Box::new(url.clone());
        let unusable = |reason| RepositoryError::UnusableUrl { url: url.clone(), reason };
        let exposed = url.expose().clone();
        let plain = exposed.as_str().strip_prefix("git+").unwrap_or_default();
        let remote = Url::parse(plain).map_err(|_| unusable("write git+https://host/path"))?;
        let reference = Reference::new(exposed.fragment()).map_err(unusable)?;
        Ok(Self {
            url,
            remote: SafeUrl::from(remote).public(),
            reference,
            reach: reach.clone(),
            directory: directory.to_owned(),
            version: OnceCell::new(),
            turn: Mutex::default(),
            history_turn: Mutex::default(),
        })
    }

    /// Whether the repository lies on this machine.
    pub(super) fn is_local(&self) -> bool {
        self.remote.scheme() == "file"
    }

    pub(super) async fn fetch(&self, known: Option<&Revision>) -> Result<Fetched, RepositoryError> {
        let _turn = self.turn.lock().await;
        let (git, remote) = self.prepare(Local::States).await?;
        let (name, commit) = self.find(&git, &remote).await?;
        if known.is_some_and(|known| known.as_str() == commit) {
            return Ok(Fetched::Unchanged);
        }
        let outcome = self.take(&git, &remote, &name, LOCAL_REFERENCE).await;
        if outcome.is_err() {
            // Whatever is wrong with the local repository, the next fetch starts without it.
            let _ = tokio::fs::remove_dir_all(git.repository()).await;
        }
        outcome
    }

    /// The files of a commit.
    pub(super) async fn fetch_commit(&self, commit: &str) -> Result<Fetched, RepositoryError> {
        let _turn = self.turn.lock().await;
        let (git, remote) = self.prepare(Local::States).await?;
        self.take(&git, &remote, commit, PAST_REFERENCE).await
    }

    /// Waits until nobody else uses the repository that has the history.
    pub(super) async fn history_turn(&self) -> MutexGuard<'_, ()> {
        self.history_turn.lock().await
    }

    /// Sets up the directory and says what git needs to know.
    pub(super) async fn prepare(&self, local: Local) -> Result<(Git, String), RepositoryError> {
        if self.reach.is_offline && !self.is_local() {
            return Err(RepositoryError::Offline { url: self.url.clone() });
        }
        let (directory, worn_size) = match local {
            Local::States => (self.directory.clone(), WORN_SIZE),
            // It is fetched once.
            Local::History => (self.directory.join("history"), MAX_DISK),
        };
        let home = directory.join("home");
        tokio::fs::create_dir_all(&home).await.map_err(RepositoryError::file(&home))?;
        let (settings, remote) = match self.remote.scheme() {
            "https" => self.settings_for_https(&directory).await?,
            _ => (settings(&[("protocol.file.allow", "always")]), self.remote.to_string()),
        };
        // What git starts for a local repository only listens to the global configuration. The
        // repository may belong to someone else: the configuration names it all the same.
        let global_config = write(&directory, "gitconfig", GLOBAL_CONFIG).await?;
        let git = Git { url: self.url.clone(), directory, global_config, settings };
        if self.remote.scheme() == "https" {
            self.version.get_or_try_init(|| check_version(&git)).await?;
        }
        let repository = git.repository();
        if is_worn(&repository, worn_size) {
            tokio::fs::remove_dir_all(&repository)
                .await
                .map_err(RepositoryError::file(&repository))?;
        }
        if !repository.join("HEAD").exists() {
            git.run("init", &["--quiet", "--bare", "--template="], Vec::new(), LOCAL).await?;
        }
        Ok((git, remote))
    }

    /// The address that git has to dial, in the form that it understands, and all else that
    /// the `[upstream]` section says.
    async fn settings_for_https(
        &self,
        directory: &Path,
    ) -> Result<(Vec<(String, String)>, String), RepositoryError> {
        let seconds = self.reach.timeout.as_secs().max(1).to_string();
        let mut settings = settings(&[
            ("protocol.https.allow", "always"),
            ("http.followRedirects", "false"),
            ("http.lowSpeedLimit", LOW_SPEED),
            ("http.lowSpeedTime", &seconds),
        ]);
        let mut set = |key: &str, value: String| settings.push((key.to_owned(), value));
        if let Some(pem) = self.reach.trust.to_pem() {
            let bundle = write(directory, "authorities.pem", &pem).await?;
            set("http.sslCAInfo", bundle.display().to_string());
        }
        let authorization = basic_authorization(self.url.expose());
        if let Some(value) = authorization.as_ref().and_then(|value| value.to_str().ok()) {
            set("http.extraHeader", format!("Authorization: {value}"));
        }
        let host = self.remote.host_str().unwrap_or_default();
        let mut remote = self.remote.clone();
        let fixed = self.reach.resolver.fixed(host);
        match &self.reach.proxy {
            Some(proxy) if fixed.is_none() => {
                let checked = self.reach.resolver.check_for_proxy(host);
                checked.map_err(|source| self.unresolved(source))?;
                set("http.proxy", proxy.url().expose().to_string());
                set("http.proxyAuthMethod", "basic".to_owned());
            }
            _ => {
                set("http.proxy", String::new());
                let port = remote.port_or_known_default().unwrap_or(443);
                let addresses = self.addresses(host, port).await?;
                // A fixed address may come with another port. The name in the URL stays, so
                // that TLS checks it.
                let port = fixed.map_or(port, |fixed| fixed.port());
                // Only fails for URLs without a host.
                let _ = remote.set_port(Some(port));
                set("http.curloptResolve", pinned(host, port, &addresses));
            }
        }
        Ok((settings, remote.to_string()))
    }

    async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, RepositoryError> {
        let resolving = self.reach.resolver.addresses(host, port);
        let resolved = tokio::time::timeout(self.reach.timeout, resolving).await;
        resolved
            .unwrap_or_else(|_| {
                let source = Arc::new(io::ErrorKind::TimedOut.into());
                Err(ResolveError::Failed { host: host.to_owned(), source })
            })
            .map_err(|source| self.unresolved(source))
    }

    fn unresolved(&self, source: ResolveError) -> RepositoryError {
        RepositoryError::Resolve { url: self.url.clone(), source }
    }

    /// The name under which to fetch, and the commit that it stands for now.
    async fn find(&self, git: &Git, remote: &str) -> Result<(String, String), RepositoryError> {
        let names = match &self.reference {
            Reference::Commit(commit) => return Ok((commit.clone(), commit.clone())),
            Reference::Head => vec!["HEAD".to_owned()],
            // An annotated tag's commit has a line of its own, which comes first here.
            Reference::Named(name) => vec![
                format!("refs/heads/{name}"),
                format!("refs/tags/{name}^{{}}"),
                format!("refs/tags/{name}"),
            ],
        };
        let mut arguments = vec!["--quiet", "--", remote];
        arguments.extend(names.iter().map(String::as_str));
        let time = self.reach.timeout.saturating_mul(ASKING_TIMEOUTS);
        let output = git.run("ls-remote", &arguments, Vec::new(), Bounds { time, ..LOCAL }).await?;
        let output = String::from_utf8_lossy(&output);
        let found = names.iter().find_map(|name| {
            let mut lines = output.lines().filter_map(|line| line.split_once('\t'));
            let (commit, _) = lines.find(|(commit, of)| is_object_name(commit) && of == name)?;
            Some((name.trim_end_matches("^{}").to_owned(), commit.to_owned()))
        });
        found.ok_or_else(|| RepositoryError::NoSuchReference {
            url: self.url.clone(),
            name: match &self.reference {
                Reference::Head => "HEAD".to_owned(),
                Reference::Named(name) | Reference::Commit(name) => name.clone(),
            },
        })
    }

    /// Fetches what `name` stands for, to be called `reference` here, and reads its files.
    async fn take(
        &self,
        git: &Git,
        remote: &str,
        name: &str,
        reference: &str,
    ) -> Result<Fetched, RepositoryError> {
        let refspec = format!("+{name}:{reference}");
        let arguments = [
            "--quiet",
            "--depth=1",
            "--no-tags",
            "--update-shallow",
            "--no-write-fetch-head",
            "--no-recurse-submodules",
            "--",
            remote,
            &refspec,
        ];
        git.run("fetch", &arguments, Vec::new(), FETCH).await?;
        let commit = format!("{reference}^{{commit}}");
        let commit = git.run("rev-parse", &["--verify", &commit], Vec::new(), LOCAL).await?;
        let commit = String::from_utf8_lossy(&commit).trim().to_owned();
        let failed = |step| {
            move |Unreadable| RepositoryError::Git {
                url: self.url.clone(),
                step,
                reason: "it printed something unexpected".to_owned(),
            }
        };
        let mut listing = Listing::new(self.url.to_string());
        let each = |piece: &[u8]| listing.read(piece)?.map_err(failed("ls-tree"));
        let arguments = ["-r", "-t", "-z", "--full-tree", &commit, "repo", "packages"];
        git.read("ls-tree", &arguments, Vec::new(), LISTING, each).await?;
        let entries = listing.finish().map_err(failed("ls-tree"))?;
        let wanted: String = entries.iter().map(|entry| format!("{}\n", entry.object)).collect();
        let arguments = ["--batch", "--buffer"];
        let blobs = git.run("cat-file", &arguments, wanted.into_bytes(), FILES).await?;
        let mut collector = Collector::new(self.url.to_string());
        collect_blobs(entries, blobs.into(), &mut collector)?.map_err(failed("cat-file"))?;
        Ok(Fetched::Files { files: collector.finish(), revision: Revision(commit) })
    }
}

/// Every setting, and before them those that hold for each repository.
fn settings(more: &[(&str, &str)]) -> Vec<(String, String)> {
    let fixed = [
        ("protocol.allow", "never"),
        ("protocol.version", "2"),
        ("core.hooksPath", "/dev/null"),
        ("credential.helper", ""),
        ("gc.auto", "0"),
        ("maintenance.auto", "false"),
        // Everything in packs: these are few, and easy to measure.
        ("fetch.unpackLimit", "1"),
    ];
    let all = fixed.iter().chain(more);
    all.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// curl's `CURLOPT_RESOLVE`: for this host and port, these addresses and no others.
fn pinned(host: &str, port: u16, addresses: &[SocketAddr]) -> String {
    let addresses: Vec<String> = addresses
        .iter()
        .map(|address| match address.ip() {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => format!("[{v6}]"),
        })
        .collect();
    format!("{host}:{port}:{}", addresses.join(","))
}

/// `http.curloptResolve` came with git 2.37; older ones ignore it and would dial unchecked.
async fn check_version(git: &Git) -> Result<(), RepositoryError> {
    let output = git.run("version", &[], Vec::new(), LOCAL).await?;
    let text = String::from_utf8_lossy(&output);
    let found = text.trim().trim_start_matches("git version ");
    let mut numbers = found.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    if (numbers.next(), numbers.next()) < (Some(2), Some(37)) {
        return Err(RepositoryError::GitTooOld { found: found.chars().take(32).collect() });
    }
    Ok(())
}

async fn write(directory: &Path, name: &str, content: &str) -> Result<PathBuf, RepositoryError> {
    let path = directory.join(name);
    tokio::fs::write(&path, content).await.map_err(RepositoryError::file(&path))?;
    Ok(path)
}

/// Whether the local repository has gathered so much that a fresh one is cheaper.
fn is_worn(repository: &Path, worn_size: u64) -> bool {
    let packs = repository.join("objects/pack");
    let files = std::fs::read_dir(&packs).map_or(0, Iterator::count);
    files > WORN_FILES || size_of(&packs) > worn_size
}

const LOCAL_REFERENCE: &str = "refs/opam-keep/head";
const PAST_REFERENCE: &str = "refs/opam-keep/past";
/// What git starts for a repository on this machine gives its commits without their files.
const GLOBAL_CONFIG: &str = "[safe]\n\tdirectory = *\n[uploadpack]\n\tallowFilter = true\n";
/// What a command that only works on local files may use.
pub(super) const LOCAL: Bounds = Bounds {
    time: Duration::from_secs(120),
    // A history of a million commits.
    output: 64 << 20,
    disk: MAX_DISK,
};
/// The same for what stops by itself where a listing is too long.
const LISTING: Bounds = Bounds { output: u64::MAX, ..LOCAL };
/// The same for the files: each comes with its object's name.
const FILES: Bounds = Bounds { output: MAX_SIZE + MAX_FILES as u64 * 80, ..LOCAL };
pub(super) const FETCH: Bounds =
    Bounds { time: Duration::from_secs(15 * 60), output: 1 << 20, disk: MAX_DISK };
/// The largest known repository takes about 10 MB, with its whole history about 150 MB.
const MAX_DISK: u64 = 2 << 30;
const WORN_SIZE: u64 = 512 << 20;
/// Each fetch leaves a pack of three files.
const WORN_FILES: usize = 150;
/// Bytes a second.
const LOW_SPEED: &str = "1000";
/// How many times `upstream.timeout` the question for a branch's commit may take: it is asked
/// in several steps.
const ASKING_TIMEOUTS: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_pinned_as_curl_reads_them() {
        let addresses = ["1.1.1.1:443", "[2a00::1]:443"].map(|address| address.parse().unwrap());
        assert_eq!(pinned("a.example", 443, &addresses), "a.example:443:1.1.1.1,[2a00::1]");
    }
}
