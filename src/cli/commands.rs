//! The commands that point clients at a mirror, as data: a title and the lines to paste.

use serde::Serialize;
use std::path::Path;
use url::{Host, Url};

/// Commands for one purpose.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Recipe {
    /// A short name, unique among all.
    pub id: &'static str,
    /// What it is for.
    pub title: &'static str,
    /// What starts a comment in the lines.
    #[serde(skip)]
    pub comment: &'static str,
    /// The lines to paste.
    pub lines: Vec<String>,
}

/// The mirror that clients are pointed at.
#[derive(Clone, Debug)]
pub(super) struct Mirror<'a> {
    /// Where clients reach it, without a slash at the end.
    pub url: &'a str,
    /// The first repository's name.
    pub repository: &'a str,
    /// The self-made CA's certificate, when that is what vouches for the server.
    pub ca: Option<&'a Path>,
    /// Whether reading takes a token.
    pub needs_token: bool,
    /// Whether it passes on a repository that names another cache, or none.
    pub is_verbatim: bool,
}

impl Mirror<'_> {
    /// What to paste to start with opam, or to go on with it, on this machine.
    pub(super) fn first_steps(&self) -> Vec<Recipe> {
        let mut recipes = Vec::new();
        if let Some(ca) = self.ca {
            let export = format!("export CURL_CA_BUNDLE={}", quote(&ca.display().to_string()));
            recipes.push(recipe(
                "trust-shell",
                "Trust the certificate, in this shell (curl then trusts no other)",
                [export],
            ));
        }
        recipes.extend(self.show_token());
        let url = self.repository_url();
        recipes.push(recipe(
            "init",
            "A new opam, 2.0 or later",
            [format!("opam init --bare --no-setup default {url}")],
        ));
        recipes.push(recipe(
            "set-url",
            "An opam that is set up already, 2.0 or later",
            [format!("opam repository set-url default {url}"), "opam update".to_owned()],
        ));
        if self.is_verbatim {
            recipes.extend(self.archives(
                "Then archives from here too, as a repository in verbatim mode does not say that; \
                 opam 2.2 and later",
            ));
        }
        recipes
    }

    /// How opam takes archives from here whatever its repositories say.
    fn archives(&self, title: &'static str) -> [Recipe; 2] {
        let url = self.url;
        [
            recipe(
                "archives-2.2",
                title,
                [format!("opam option --global 'archive-mirrors=[\"{url}/cache\"]'")],
            ),
            recipe(
                "archives-2.0",
                "The same, opam 2.0 and 2.1: a line for the file config in the opam root",
                [format!("archive-mirrors: [\"{url}/cache\"]")],
            ),
        ]
    }

    /// Everything there is to paste, but for CI.
    pub(super) fn all(&self) -> Vec<Recipe> {
        let mut recipes = self.first_steps();
        if let Some(ca) = self.ca {
            let ca = quote(&ca.display().to_string());
            recipes.extend(trust(&ca));
        }
        let url = self.url;
        if !self.is_verbatim {
            recipes.extend(self.archives(
                "Only archives, for a repository that comes from git; opam 2.2 and later",
            ));
        }
        // What is of a day already has no other one below it.
        if !url.contains("/at/") {
            recipes.push(recipe(
                "at",
                "A build with the packages of a day that is over, in UTC",
                [format!(
                    "opam repository set-url default {url}/at/YYYY-MM-DD/{}",
                    self.repository
                )],
            ));
        }
        recipes
    }

    /// How a person's curl, which opam and dune ask with, comes to show a token.
    ///
    /// A token in the URL would be printed by every `opam update`, and is not shown to the caches
    /// that are named by a whole URL.
    pub(super) fn show_token(&self) -> Option<Recipe> {
        let line = format!("machine {} login opam password TOKEN", self.host());
        self.needs_token.then(|| {
            recipe(
                "token",
                "Reading takes a token: for TOKEN write what opam-keep token add NAME prints",
                [
                    format!("(umask 077; echo '{line}' >> ~/.netrc)"),
                    "echo netrc-optional >> ~/.curlrc".to_owned(),
                ],
            )
        })
    }

    /// Where clients reach the first repository.
    pub(super) fn repository_url(&self) -> String {
        format!("{}/{}", self.url, self.repository)
    }

    /// The host, as a netrc file names it.
    pub(super) fn host(&self) -> String {
        let url = Url::parse(self.url).ok();
        match url.as_ref().and_then(Url::host) {
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(host) => host.to_string(),
            None => String::new(),
        }
    }
}

/// How each system comes to trust a CA for good.
fn trust(ca: &str) -> Vec<Recipe> {
    vec![
        recipe(
            "trust-debian",
            "Trust it for good, Debian, Ubuntu and Alpine",
            [
                format!("sudo cp {ca} /usr/local/share/ca-certificates/opam-keep.crt"),
                "sudo update-ca-certificates".to_owned(),
            ],
        ),
        recipe(
            "trust-fedora",
            "Trust it for good, Fedora and Red Hat",
            [
                format!("sudo cp {ca} /etc/pki/ca-trust/source/anchors/opam-keep.pem"),
                "sudo update-ca-trust".to_owned(),
            ],
        ),
        recipe(
            "trust-macos",
            "Trust it for good, macOS",
            [format!(
                "sudo security add-trusted-cert -d -r trustRoot -k \
                 /Library/Keychains/System.keychain {ca}"
            )],
        ),
    ]
}

fn recipe(
    id: &'static str,
    title: &'static str,
    lines: impl IntoIterator<Item = String>,
) -> Recipe {
    Recipe { id, title, comment: "#", lines: lines.into_iter().collect() }
}

/// A word as a POSIX shell reads it back.
pub(super) fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+');
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_the_shell() {
        assert_eq!(quote("/var/lib/ca.pem"), "/var/lib/ca.pem");
        assert_eq!(quote("/a b/it's"), "'/a b/it'\\''s'");
    }

    #[test]
    fn a_known_certificate_needs_no_trust() {
        let mirror = Mirror {
            url: "https://opam.corp",
            repository: "default",
            ca: None,
            needs_token: false,
            is_verbatim: false,
        };
        let recipes = mirror.all();
        let lines = recipes.iter().flat_map(|recipe| &recipe.lines);
        assert!(lines.clone().all(|it| !it.contains("CURL_CA_BUNDLE") && !it.contains("netrc")));
        let init = recipes.iter().find(|recipe| recipe.id == "init").unwrap();
        assert_eq!(init.lines, ["opam init --bare --no-setup default https://opam.corp/default"]);
    }
}
