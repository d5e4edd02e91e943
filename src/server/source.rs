//! Where the configuration comes from, and what changed since it was taken: mirror.toml and the
//! files that it names.
//!
//! A file is looked at before it is used, so that a change which comes later always shows.

use super::tls;
use crate::config::{Config, Purpose};
use crate::digest::Sha256;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The configuration that is in force, and the files that say another one when they change.
pub struct Source {
    file: Option<PathBuf>,
    config: Config,
    load: Arc<Load>,
    /// What the files held when they were last looked at.
    contents: Contents,
    /// While what the file says is refused: the files that it names, which may have to be there.
    awaited: Option<Vec<PathBuf>>,
}

/// Reads the configuration, as the command line wants it.
pub type Load = dyn Fn(Purpose) -> Result<Config, String> + Send + Sync;

/// The hash of each file; none where it can't be read.
type Contents = BTreeMap<PathBuf, Option<Sha256>>;

/// What has to be taken again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    /// All of the configuration.
    pub configuration: bool,
    /// The certificates of the configuration that is in force.
    pub certificates: bool,
}

impl Source {
    /// Reads the configuration for the first time, from `file` where there is one.
    ///
    /// # Errors
    /// What is wrong with it, in one sentence.
    pub fn read(file: Option<PathBuf>, load: Arc<Load>) -> Result<Self, String> {
        let mut contents = contents(file.iter().cloned());
        let (config, named) = look_and_load(&load);
        contents.extend(named);
        Ok(Self { file, config: config?, load, contents, awaited: None })
    }

    /// What is in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Every file that the configuration is in or names, or that a refused one names.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = self.file.iter().cloned().collect();
        files.extend(named(&self.config));
        files.extend(self.awaited.iter().flatten().cloned());
        files
    }

    /// Looks at every file, and says what those that changed have to do with.
    pub(super) async fn look(&mut self) -> Due {
        let files = self.files();
        let now = tokio::task::spawn_blocking(move || contents(files.into_iter())).await;
        let now = now.unwrap_or_else(|_| self.contents.clone());
        let of_tls = tls::files(&self.config);
        let mut due = Due { configuration: false, certificates: false };
        for (path, _) in now.iter().filter(|(path, now)| self.contents.get(*path) != Some(*now)) {
            let is_of_tls = of_tls.contains(path);
            due.certificates |= is_of_tls;
            // What was refused may be good with this file.
            due.configuration |= !is_of_tls || self.awaited.is_some();
        }
        self.contents = now;
        due
    }

    /// What the file says now; refused unless [`Source::took`] says otherwise.
    ///
    /// # Errors
    /// What is wrong with it, in one sentence.
    pub(super) async fn load(&mut self) -> Result<Config, String> {
        // It would drop every repository; who writes a file anew empties it first.
        let is_empty = |path: &&PathBuf| std::fs::metadata(path).is_ok_and(|it| it.len() == 0);
        if let Some(path) = self.file.as_ref().filter(is_empty) {
            let path = path.display();
            return Err(format!(
                "{path} is empty: to serve the defaults alone, start anew with it"
            ));
        }
        let load = Arc::clone(&self.load);
        let loaded = tokio::task::spawn_blocking(move || look_and_load(&load)).await;
        let (config, named) =
            loaded.unwrap_or_else(|error| (Err(error.to_string()), Contents::new()));
        self.awaited = Some(named.keys().cloned().collect());
        for (path, hash) in named {
            self.contents.entry(path).or_insert(hash);
        }
        config
    }

    /// What was loaded is in force.
    pub(super) fn took(&mut self, config: Config) {
        self.config = config;
        self.awaited = None;
    }
}

/// What the file says, and what the files that it names held before they were used.
fn look_and_load(load: &Arc<Load>) -> (Result<Config, String>, Contents) {
    match load(Purpose::Looking) {
        Ok(config) => {
            let named = contents(named(&config).into_iter());
            (load(Purpose::Serving), named)
        }
        Err(problem) => (Err(problem), Contents::new()),
    }
}

/// Every file that a configuration names.
fn named(config: &Config) -> Vec<PathBuf> {
    let mut files = tls::files(config);
    files.extend(config.upstream.extra_ca.iter().map(|it| it.get_ref().clone()));
    files.extend(config.alert.secret_files().map(|it| it.get_ref().clone()));
    files
}

fn contents(files: impl Iterator<Item = PathBuf>) -> Contents {
    files.map(|path| (path.clone(), hashed(&path))).collect()
}

fn hashed(path: &Path) -> Option<Sha256> {
    std::fs::read(path).ok().map(|bytes| Sha256::of(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use std::fs;

    const NOTHING: Due = Due { configuration: false, certificates: false };
    const ALL: Due = Due { configuration: true, certificates: false };

    fn source(directory: &Path, text: &str) -> Source {
        let file = directory.join("mirror.toml");
        fs::write(&file, text).unwrap();
        let copy = file.clone();
        let load = move |purpose| {
            let loaded = config::load(Some(&copy), std::iter::empty(), purpose);
            loaded.map_err(|error| error.to_string())
        };
        Source::read(Some(file), Arc::new(load)).unwrap()
    }

    #[tokio::test]
    async fn a_change_right_after_the_start_shows() {
        let directory = tempfile::tempdir().unwrap();
        let mut source = source(directory.path(), "[access]\nread = \"open\"\n");
        fs::write(directory.path().join("mirror.toml"), "[access]\nread = \"tokens\"\n").unwrap();
        assert_eq!(source.look().await, ALL);
        assert_eq!(source.look().await, NOTHING);
    }

    #[tokio::test]
    async fn a_file_that_a_refused_configuration_names_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let mut source = source(directory.path(), "");
        let text = "[upstream]\nextra_ca = \"ca.pem\"\n";
        fs::write(directory.path().join("mirror.toml"), text).unwrap();
        assert_eq!(source.look().await, ALL);
        assert!(source.load().await.unwrap_err().contains("ca.pem"));
        assert_eq!(source.look().await, NOTHING);
        fs::write(directory.path().join("ca.pem"), "").unwrap();
        assert_eq!(source.look().await, ALL);
        let config = source.load().await.unwrap();
        source.took(config);
        assert_eq!(source.look().await, NOTHING);
    }

    #[tokio::test]
    async fn what_was_refused_is_tried_again_with_another_certificate() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        write("cert.pem", "one");
        write("key.pem", "one");
        let tls = "[server]\ntls = { cert = \"cert.pem\", key = \"key.pem\" }\n";
        let mut source = source(directory.path(), tls);
        write("key.pem", "two");
        assert_eq!(source.look().await, Due { configuration: false, certificates: true });
        write("mirror.toml", &tls.replace("cert.pem", "nowhere.pem"));
        assert_eq!(source.look().await, ALL);
        assert!(source.load().await.is_err());
        write("key.pem", "three");
        assert_eq!(source.look().await, Due { configuration: true, certificates: true });
    }
}
