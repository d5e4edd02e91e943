//! The files and directories that mirror.toml names: where they lie, and whether they are there.

use super::Config;
use super::alert::Misplaced;
use super::environment::{ENVIRONMENT_PREFIX, toml_value};
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Where relative paths begin.
pub(super) struct Base<'a> {
    /// The directory of mirror.toml.
    pub directory: &'a Path,
    /// The keys that the environment sets, such as `store__path`; what it says of a path begins in
    /// the working directory, as on the command line.
    pub of_environment: &'a [String],
}

impl Base<'_> {
    /// Makes every path of a configuration absolute.
    pub(super) fn resolve(&self, config: &mut Config) {
        if let Some(tls) = &mut config.server.tls {
            self.make_absolute("server__tls__cert", tls.cert.get_mut());
            self.make_absolute("server__tls__key", tls.key.get_mut());
        }
        if let Some(file) = &mut config.access.client_ca {
            self.make_absolute("access__client_ca", file.get_mut());
        }
        if let Some(path) = &mut config.store.path {
            self.make_absolute("store__path", path);
        }
        if let Some(file) = &mut config.upstream.extra_ca {
            self.make_absolute("upstream__extra_ca", file.get_mut());
        }
        for file in config.alert.webhook.iter_mut().filter_map(|it| it.secret_file.as_mut()) {
            self.make_absolute("alert__webhook", file.get_mut());
        }
        for file in config.alert.email.iter_mut().filter_map(|it| it.password_file.as_mut()) {
            self.make_absolute("alert__email", file.get_mut());
        }
        for command in &mut config.alert.command {
            // A program without a slash is looked for in PATH.
            let program = command.run.get_mut().first_mut().filter(|it| it.contains('/'));
            if let Some(program) = program {
                let mut path = PathBuf::from(&*program);
                self.make_absolute("alert__command", &mut path);
                if let Ok(text) = path.into_os_string().into_string() {
                    *program = text;
                }
            }
        }
    }

    fn make_absolute(&self, key: &str, path: &mut PathBuf) {
        // What is empty is a mistake of its own.
        if path.as_os_str().is_empty() {
            return;
        }
        let sets = |named: &String| {
            let rest = key.strip_prefix(named.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("__"))
        };
        let directory = match self.of_environment.iter().any(sets) {
            true => Path::new(""),
            false => self.directory,
        };
        *path = absolute(&directory.join(&*path));
    }
}

/// The directory that a mirror.toml lies in; the working directory where there is none.
pub(super) fn directory_of(file: Option<&Path>) -> PathBuf {
    let file = file.map(absolute);
    file.as_deref().and_then(Path::parent).unwrap_or(Path::new("")).to_owned()
}

/// Whether all that a server needs can be read.
pub(super) fn check(config: &Config) -> Result<(), Misplaced> {
    let tls = config.server.tls.iter().flat_map(|tls| [&tls.cert, &tls.key]);
    for file in tls.chain(&config.upstream.extra_ca).chain(&config.access.client_ca) {
        check_one(file, "a PEM file")?;
    }
    config.alert.secret_files().try_for_each(|file| check_one(file, "a file"))
}

fn check_one(file: &Spanned<PathBuf>, what: &str) -> Result<(), Misplaced> {
    let path = file.get_ref().display();
    std::fs::File::open(file.get_ref()).map(drop).map_err(|error| {
        (file.span(), format!("{path}: {error}: name {what} that this user may read"))
    })
}

/// Where the environment, or else a mirror.toml that may be full of mistakes, says that the store
/// is.
pub fn likely_store(
    file: Option<&Path>,
    mut variables: impl Iterator<Item = (String, String)>,
) -> Option<PathBuf> {
    let name = format!("{ENVIRONMENT_PREFIX}STORE__PATH");
    if let Some((_, value)) = variables.find(|(variable, _)| *variable == name) {
        return toml_value(&value).as_str().map(|path| absolute(Path::new(path)));
    }
    let text = std::fs::read_to_string(file?).ok()?;
    let (table, _mistakes) = DeTable::parse_recoverable(&text);
    let store = table.get_ref().get("store").and_then(|it| it.get_ref().as_table())?;
    let path = store.get("path").map(Spanned::get_ref).and_then(DeValue::as_str)?;
    Some(absolute(&directory_of(file).join(path)))
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Purpose, load};

    fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("mirror.toml");
        std::fs::write(&file, text).unwrap();
        (directory, file)
    }

    #[test]
    fn a_relative_path_begins_where_mirror_toml_lies() {
        let (directory, file) = written(
            "[server]\ntls = { cert = \"tls/full.pem\", key = \"/etc/key.pem\" }\n\
             [access]\nread = \"tokens\"\nclient_ca = \"clients.pem\"\n[store]\npath = \"store\"\n\
             [upstream]\nextra_ca = \"./ca.pem\"\n\
             [[alert.webhook]]\nurl = \"https://h/\"\nsecret_file = \"secret\"\n\
             [[alert.email]]\nserver = \"smtp://u@h\"\npassword_file = \"password\"\n\
             from = \"a@b.example\"\nto = [\"a@b.example\"]\n\
             [[alert.command]]\nrun = [\"./tell\", \"x/y\"]\n[[alert.command]]\nrun = [\"logger\"]\n",
        );
        let config = load(Some(&file), std::iter::empty(), Purpose::Looking).unwrap();
        let below = |name: &str| directory.path().join(name);
        let tls = config.server.tls.as_ref().unwrap();
        assert_eq!(*tls.cert.get_ref(), below("tls/full.pem"));
        assert_eq!(*tls.key.get_ref(), Path::new("/etc/key.pem"));
        assert_eq!(*config.access.client_ca.as_ref().unwrap().get_ref(), below("clients.pem"));
        assert_eq!(config.store.path, Some(below("store")));
        assert_eq!(*config.upstream.extra_ca.as_ref().unwrap().get_ref(), below("ca.pem"));
        let secrets: Vec<&PathBuf> = config.alert.secret_files().map(Spanned::get_ref).collect();
        assert_eq!(secrets, [&below("secret"), &below("password")]);
        let program = below("tell").display().to_string();
        assert_eq!(*config.alert.command[0].run.get_ref(), [program.as_str(), "x/y"]);
        assert_eq!(*config.alert.command[1].run.get_ref(), ["logger"]);

        let error = load(Some(&file), std::iter::empty(), Purpose::Serving).unwrap_err();
        let tried = format!("mirror.toml:2:16: {}: No such file", below("tls/full.pem").display());
        assert!(error.to_string().contains(&tried), "{error}");
    }

    #[test]
    fn what_the_environment_says_begins_in_the_working_directory() {
        let (_directory, file) = written("[store]\npath = \"store\"\n");
        let here = std::env::current_dir().unwrap();
        let variables = || {
            let set = [("STORE__PATH", "elsewhere"), ("UPSTREAM__EXTRA_CA", "ca.pem")];
            set.into_iter().map(|(key, value)| (format!("OPAM_KEEP_{key}"), value.to_owned()))
        };
        let config = load(Some(&file), variables(), Purpose::Looking).unwrap();
        assert_eq!(*config.upstream.extra_ca.unwrap().get_ref(), here.join("ca.pem"));
        assert_eq!(config.store.path, Some(here.join("elsewhere")));
        assert_eq!(likely_store(Some(&file), variables()), Some(here.join("elsewhere")));
    }

    #[test]
    fn a_file_with_mistakes_still_says_where_the_store_is() {
        for text in ["listn = 1\n[store]\npath = \"store\"\n", "[store]\npath = \"store\"\n[server"]
        {
            let (directory, file) = written(text);
            let found = likely_store(Some(&file), std::iter::empty());
            assert_eq!(found, Some(directory.path().join("store")), "{text}");
        }
        let (_directory, file) = written("[server]\n");
        assert_eq!(likely_store(Some(&file), std::iter::empty()), None);
    }
}
