//! Notices that a directory changed.

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tracing::warn;

/// Says when to look at a directory again.
///
/// It says so too often rather than too rarely: also every half minute, as some file systems tell
/// nothing and every queue can overflow. Whoever is told compares contents.
#[derive(Debug)]
pub struct Watch {
    root: PathBuf,
    changed: Arc<Notify>,
    /// The directories that are watched.
    watched: Directories,
    /// Tells `changed` for as long as it lives; `None` where the system can't watch.
    watcher: Option<RecommendedWatcher>,
}

/// Device and inode of the root and of `packages`: a path may come to name another directory.
type Directories = [Option<(u64, u64)>; 2];

impl Watch {
    /// Watches `repo` and everything below `packages` in `root`; where that fails, only the
    /// regular look remains.
    pub(super) fn start(root: &Path) -> Self {
        let (root, changed) = (root.to_owned(), Arc::default());
        let mut watch = Self { watched: directories(&root), root, changed, watcher: None };
        if let Err(error) = watch.watch() {
            warn!(root = %watch.root.display(), %error, "{UNWATCHED}");
        }
        watch
    }

    /// Waits until something changed and then kept quiet for a moment, or until it is time to
    /// look anyway.
    pub async fn changed(&mut self) {
        self.until_changed().await;
        let now = directories(&self.root);
        let is_watched = self.watcher.is_some();
        if now != self.watched || !is_watched {
            self.watched = now;
            if let Err(error) = self.watch()
                && is_watched
            {
                warn!(root = %self.root.display(), %error, "{UNWATCHED}");
            }
        }
    }

    /// Watches what the paths name by now.
    fn watch(&mut self) -> notify::Result<()> {
        self.watcher = None;
        self.watcher = Some(watcher(&self.root, self.changed.clone())?);
        Ok(())
    }

    async fn until_changed(&self) {
        if timeout(POLL, self.changed.notified()).await.is_err() {
            return;
        }
        let end = Instant::now() + LONGEST_UNREST;
        while Instant::now() < end {
            if timeout(QUIET, self.changed.notified()).await.is_err() {
                return;
            }
        }
    }
}

fn directories(root: &Path) -> Directories {
    [root, &root.join(PACKAGES)]
        .map(|path| path.metadata().ok().map(|found| (found.dev(), found.ino())))
}

fn watcher(root: &Path, changed: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // An error is a reason to look, too: events may have been lost.
        if event.is_ok_and(|event| is_only_reading(event.kind)) {
            return;
        }
        changed.notify_one();
    })?;
    // The parent, not the file: watching a file ends with the first rename over it.
    watcher.watch(root, RecursiveMode::NonRecursive)?;
    watcher.watch(&root.join(PACKAGES), RecursiveMode::Recursive)?;
    Ok(watcher)
}

/// Reading the directory makes events as well; to react to these would never end.
fn is_only_reading(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access != AccessKind::Close(AccessMode::Write),
        _ => false,
    }
}

const UNWATCHED: &str = "changes can't be watched for and show up with the next poll";
const PACKAGES: &str = "packages";
/// How often to look without being told.
const POLL: Duration = Duration::from_secs(30);
/// A checkout writes thousands of files: after the last one it is quiet for this long.
const QUIET: Duration = Duration::from_millis(500);
/// In a directory that never keeps quiet, look after this long.
const LONGEST_UNREST: Duration = Duration::from_secs(5);
