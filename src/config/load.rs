//! File, environment and defaults put together; every mistake with its place.

use super::files::{self, Base};
use super::{Config, Repository, check, environment, wording};
use crate::safe_url::SafeUrl;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a configuration can't be used; one sentence that says where and what.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{path}: {source}: {}", way_out(source))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file says something that can't be meant.
    #[error("{path}:{line}:{column}: {message}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What is wrong and what to write instead.
        message: String,
    },
    /// Keys of the file, or those and the defaults, can't be meant together.
    #[error("{path}: {message}")]
    Contradiction {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to write instead.
        message: String,
    },
    /// An environment variable says something that can't be meant.
    #[error("environment variable {name}: {message}")]
    Environment {
        /// The variable.
        name: String,
        /// What is wrong and what to write instead.
        message: String,
    },
}

/// What to do where a file can't be read.
fn way_out(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::PermissionDenied => "let this user read it, or run this as one who may",
        _ => "check the path given with --config or OPAM_KEEP_CONFIG",
    }
}

/// What a configuration is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To serve by it: whatever it names has to be there.
    Serving,
    /// To look something up in it, maybe as someone who may not read every file that it names.
    Looking,
}

/// Reads the configuration: defaults, then `file` if one is given, then those of `variables`
/// that are named `OPAM_KEEP_SECTION__KEY`.
///
/// # Errors
/// The first mistake found, with file, line and column, or the variable's name.
pub fn load(
    file: Option<&Path>,
    variables: impl Iterator<Item = (String, String)>,
    purpose: Purpose,
) -> Result<Config, ConfigError> {
    let text = match file {
        Some(path) => {
            let path = path.to_owned();
            std::fs::read_to_string(&path).map_err(|source| match source.kind() {
                ErrorKind::InvalidData => {
                    ConfigError::Contradiction { path, message: "it is no UTF-8 text".to_owned() }
                }
                _ => ConfigError::Unreadable { path, source },
            })?
        }
        None => String::new(),
    };
    parse(&text, file, variables, purpose)
}

/// The same of a file's `text`. Whether the files that it names can be read is checked as well.
///
/// # Errors
/// Those of [`load`].
pub fn parse(
    text: &str,
    file: Option<&Path>,
    variables: impl Iterator<Item = (String, String)>,
    purpose: Purpose,
) -> Result<Config, ConfigError> {
    let path = file.unwrap_or(Path::new("mirror.toml"));
    let directory = files::directory_of(file);
    let mut of_environment = Vec::new();
    let read = |text: &str, of_environment: &[String]| {
        read(text, &Base { directory: &directory, of_environment }, purpose)
    };
    let mut config = read(text, &[]).map_err(|mistake| mistake.in_file(path, text))?;
    let mut merged: Option<toml::Table> = None;
    for (name, value) in environment::overrides(variables)? {
        let environment = |mistake: Mistake| ConfigError::Environment {
            name: name.clone(),
            message: mistake.message,
        };
        let table = match merged.take() {
            Some(table) => table,
            None => toml::from_str(text).map_err(|error| environment(error.into()))?,
        };
        let table = environment::overlay(table, &name, &value).map_err(environment)?;
        of_environment.push(environment::key_of(&name));
        config = read(&table.to_string(), &of_environment).map_err(environment)?;
        merged = Some(table);
    }
    if config.repository.is_empty() {
        config.repository.push(default_repository());
    }
    Ok(config)
}

/// What is wrong, and which bytes of the text say it.
pub(super) struct Mistake {
    message: String,
    span: Option<Range<usize>>,
}

impl Mistake {
    pub(super) fn at(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { message: message.into(), span: Some(span) }
    }

    /// A mistake that several keys make together, or one whose place isn't known.
    pub(super) fn of_all(message: impl Into<String>) -> Self {
        Self { message: message.into(), span: None }
    }

    fn in_file(self, path: &Path, text: &str) -> ConfigError {
        let Some(span) = self.span else {
            return ConfigError::Contradiction { path: path.to_owned(), message: self.message };
        };
        let start = span.start.min(text.len());
        let before = text.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        ConfigError::Invalid {
            path: path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: self.message,
        }
    }
}

impl From<toml::de::Error> for Mistake {
    fn from(error: toml::de::Error) -> Self {
        Self { message: wording::of(error.message()), span: error.span() }
    }
}

fn read(text: &str, base: &Base<'_>, purpose: Purpose) -> Result<Config, Mistake> {
    let mut config: Config = toml::from_str(text)?;
    base.resolve(&mut config);
    check::all(&config)?;
    if purpose == Purpose::Serving {
        check::rules(&config)?;
        files::check(&config).map_err(|(place, message)| Mistake::at(place, message))?;
    }
    Ok(config)
}

fn default_repository() -> Repository {
    let upstream: SafeUrl = DEFAULT_UPSTREAM.parse().expect("the default upstream is a URL");
    Repository {
        name: DEFAULT_NAME.parse().expect("the default name is a name"),
        upstream: toml::Spanned::new(0..0, upstream),
        refresh: super::default_refresh(),
        mode: super::Mode::Managed,
        rewrite_sources: super::not_rewritten(),
    }
}

const DEFAULT_UPSTREAM: &str = "https://opam.ocaml.org";
pub(super) const DEFAULT_NAME: &str = "default";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn load_text(text: &str) -> Result<Config, String> {
        parse(text, Some(Path::new("mirror.toml")), std::iter::empty(), Purpose::Serving)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_example_shows_the_defaults_and_only_keys_that_there_are() {
        let example = crate::config::EXAMPLE;
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("mirror.toml.example");
        let printed = |config: &Config| {
            let text = format!("{config:?}");
            let mut parts = text.split("span: ");
            let first = parts.next().unwrap_or_default().to_owned();
            // Where something stands is not what it says.
            parts.fold(first, |text, part| text + part.split_once(", value").unwrap_or_default().1)
        };
        let shown = load(Some(&path), std::iter::empty(), Purpose::Serving).unwrap();
        let defaults = load(None, std::iter::empty(), Purpose::Serving).unwrap();
        assert_eq!(printed(&shown), printed(&defaults));
        let uncommented =
            example.lines().skip(2).map(|line| line.strip_prefix("# ").unwrap_or(line));
        let uncommented = uncommented.collect::<Vec<_>>().join("\n");
        let all: Config = toml::from_str(&uncommented).unwrap();
        assert_eq!(all.alert.sinks().len(), 3);
    }

    #[test]
    fn nothing_at_all_mirrors_opams_own_repository() {
        let config = load_text("").unwrap();
        assert_eq!(config.repository.len(), 1);
        assert_eq!(config.repository[0].upstream.get_ref().to_string(), "https://opam.ocaml.org/");
    }

    #[test]
    fn mistakes_are_named_with_line_and_column() {
        for (text, expected) in [
            (
                "[server]\nlistn = []\n",
                "mirror.toml:2:1: there is no key `listn`, expected one of `listen`",
            ),
            ("[repository]\nname = \"x\"", "mirror.toml:1:1: wrong brackets: [[repository]],"),
            ("[[repository]]\nname = \"x\"", "mirror.toml:1:1: there is no `upstream`"),
            (
                "[upstream]\nper_host = \"x\"",
                "mirror.toml:2:12: invalid type: string \"x\", expected a whole number",
            ),
            (
                "[store]\npath = 3",
                "mirror.toml:2:8: invalid type: integer `3`, expected a path in quotes",
            ),
            (
                "[server]\ntls = 3",
                "mirror.toml:2:7: invalid type: integer `3`, expected { cert = \"FILE\", key",
            ),
            (
                "[upstream]\ntimeout = \"30x\"\n",
                "mirror.toml:2:11: invalid value: string \"30x\", expected a duration longer",
            ),
            (
                "[upstream]\ntimeout = 30\n",
                "mirror.toml:2:11: invalid type: integer `30`, expected a duration longer",
            ),
            (
                "[server]\nlisten = \"127.0.0.1:8443\"\n",
                "mirror.toml:2:10: invalid type: string \"127.0.0.1:8443\", expected a list in",
            ),
            (
                "[store]\nmin_free = 5\n",
                "mirror.toml:2:12: invalid type: integer `5`, expected a size of at least",
            ),
            (
                "[[repository]]\nname = \"cache\"\nupstream = \"https://x\"",
                "mirror.toml:2:8: invalid value: string \"cache\", expected another name than those \
                 that paths of the server have: api, archive, assets, at, cache, divergences, git,",
            ),
            (
                "[[policy.override]]\nrepository = \"git\"\nbuild = \"hold\"\n\
                 [[repository]]\nname = \"git\"\nupstream = \"https://x\"",
                "mirror.toml:5:8: invalid value: string \"git\", expected another name",
            ),
            (
                "[server]\ntls = { cert = \"/nowhere/a.pem\", key = \"/nowhere/b.pem\" }\n",
                "mirror.toml:2:16: /nowhere/a.pem: No such file or directory",
            ),
            (
                "[[repository]]\nname = \"a\"\nupstream = \"gopher://x\"",
                "mirror.toml:3:12: an upstream",
            ),
            (
                "[[repository]]\nname = \"a\"\nupstream = \"https://u:p@x.example/a/index.tar.gz\"",
                "mirror.toml:3:12: index.tar.gz is asked for below an upstream: write \
                 \"https://x.example/a\"",
            ),
            (
                "[[repository]]\nname = \"a\"\nupstream = \"https://x\"\nrewrite_sources = true",
                "mirror.toml:4:19: rewrite_sources = true has sources point to where",
            ),
            (
                "[[repository]]\nname = \"a\"\nupstream = \"file:///x\"\nmode = \"verbatim\"",
                "mirror.toml:3:12: mode = \"verbatim\" passes on",
            ),
            (
                "[[alert.webhook]]\nurl = \"https://hooks.example/quiet\"",
                "mirror.toml:2:7: a standard webhook is signed",
            ),
            (
                "[[alert.webhook]]\nurl = \"https://h/\"\nsecret_file = \"/nowhere/secret\"",
                "mirror.toml:3:15: /nowhere/secret: No such file or directory",
            ),
            (
                "[[policy.override]]\nrepository = \"nosuch\"\nbuild = \"hold\"",
                "mirror.toml:2:14: no repository \"nosuch\" is configured, so these rules hold for \
                 nothing; these are: default",
            ),
            ("[server]\nlisten = []", "mirror.toml: server.listen is empty"),
            (
                "[server]\nplain_http = [\"127.0.0.1:8443\"]",
                "mirror.toml: server.listen and server.plain_http name 127.0.0.1:8443 twice",
            ),
            (
                "[server]\nlisten = [\"0.0.0.0:1\"]\nplain_http = [\"127.0.0.1:1\"]",
                "mirror.toml: server.listen and server.plain_http name 0.0.0.0:1 and 127.0.0.1:1, of",
            ),
            ("[server]\nhostnames = []", "mirror.toml: server.hostnames is empty"),
            ("[server]\nhostnames = [\"a b\"]", "mirror.toml: server.hostnames has \"a b\""),
            ("[server]\npublic_url = \"ftp://x\"", "mirror.toml: server.public_url is no"),
            ("[store]\npath = \"\"", "mirror.toml: store.path is empty"),
            ("[upstream]\nper_host = 5000", "mirror.toml: upstream.per_host is 5000: 1024 fetches"),
            ("[upstream]\nproxy = \"socks5://x:1\"", "mirror.toml: upstream.proxy is no HTTP"),
            (
                "[server]\nlisten = [\"127.0.0.1\"]",
                "mirror.toml:2:10: invalid value: string \"127.0.0.1\", expected an address with a",
            ),
            (
                "[upstream]\nper_host = 0",
                "mirror.toml:2:12: invalid value: integer `0`, expected 1 or more",
            ),
        ] {
            let error = load_text(text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    /// Lines of the example, words of TOML and whatever else, one below the other.
    fn lines() -> impl Strategy<Value = String> {
        let example = crate::config::EXAMPLE.lines();
        let example: Vec<&str> =
            example.map(|line| line.strip_prefix("# ").unwrap_or(line)).collect();
        let line = prop_oneof![
            4 => prop::sample::select(example).prop_map(str::to_owned),
            1 => "(name|listen|mode|every|url) = ([0-9]{1,3}|\\[\\]|\"[a-zé:/]{0,9}\"|'{3})",
            1 => "\\[{1,2}(server|alert[.]email|repository|é)\\]{1,2}",
            1 => ".{0,12}",
        ];
        prop::collection::vec(line, 0..8).prop_map(|lines| lines.join("\n"))
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused_in_one_sentence_with_its_place(text in lines()) {
            match parse(&text, Some(Path::new("mirror.toml")), std::iter::empty(), Purpose::Serving) {
                Ok(config) => prop_assert!(!config.repository.is_empty()),
                Err(error) => {
                    let sentence = error.to_string();
                    prop_assert!(!sentence.contains('\n'), "{}", sentence);
                    if let ConfigError::Invalid { line, column, .. } = error {
                        let line = text.split('\n').nth(line - 1).unwrap();
                        let columns = 1..=1 + line.chars().count();
                        prop_assert!(columns.contains(&column), "{}", sentence);
                    }
                }
            }
        }
    }
}
