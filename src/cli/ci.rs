//! What to paste into CI services, Dockerfiles and dune projects so that they use a mirror.
//!
//! Each recipe is a template, written as it is pasted. `@REPOSITORY@`, `@CACHE@`, `@CA@`, `@HOST@`
//! and `@NAME@` stand for what differs between mirrors, `@SECRET@` for what gives a step of a
//! Docker build the token, other names for parts that several recipes share. A line that starts
//! with `?` is left out where the certificate comes from a CA that clients know anyway, one that
//! starts with `!` where reading takes no token.

use super::commands::{Mirror, Recipe, quote};
use clap::ValueEnum;

/// Where packages are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Ci {
    /// Steps of a GitHub Actions job, with setup-ocaml or in a container
    Github,
    /// A part of .gitlab-ci.yml
    Gitlab,
    /// A part of a Dockerfile
    Docker,
    /// dune's own package management, with or without CI
    Dune,
}

impl Ci {
    /// What to paste.
    pub(super) fn recipes(self, mirror: &Mirror<'_>) -> Vec<Recipe> {
        let templates = self.templates().iter();
        let filled = templates
            .filter(|template| mirror.ca.is_some() || !template.needs_ca)
            .map(|template| template.fill(mirror));
        // Where dune runs, a person may too.
        let token = mirror.show_token().filter(|_| self == Self::Dune);
        token.into_iter().chain(filled).collect()
    }

    fn templates(self) -> &'static [Template] {
        match self {
            Self::Github => &GITHUB,
            Self::Gitlab => &GITLAB,
            Self::Docker => &DOCKER,
            Self::Dune => &DUNE,
        }
    }
}

/// A recipe for any mirror.
struct Template {
    id: &'static str,
    title: &'static str,
    /// What starts a comment in the text.
    comment: &'static str,
    /// Whether it is about nothing but the self-made CA.
    needs_ca: bool,
    text: &'static str,
}

impl Template {
    fn fill(&self, mirror: &Mirror<'_>) -> Recipe {
        let mut lines = Vec::new();
        fill(self.text, "", mirror, &mut lines);
        Recipe { id: self.id, title: self.title, comment: self.comment, lines }
    }
}

/// Adds a template's lines with what differs between mirrors filled in, each after `margin`.
fn fill(text: &str, margin: &str, mirror: &Mirror<'_>, lines: &mut Vec<String>) {
    for line in text.lines() {
        let line = match line.split_at_checked(1) {
            Some(("?", _)) if mirror.ca.is_none() => continue,
            Some(("!", _)) if !mirror.needs_token => continue,
            Some(("?" | "!", line)) => line,
            _ => line,
        };
        let word = line.trim_start();
        match PARTS.iter().find(|(name, _)| *name == word) {
            Some((_, part)) => {
                let deeper = format!("{margin}{}", &line[..line.len() - word.len()]);
                fill(part, &deeper, mirror, lines);
            }
            None => lines.push(format!("{margin}{}", words(line, mirror))),
        }
    }
}

fn words(line: &str, mirror: &Mirror<'_>) -> String {
    let ca = mirror.ca.map(|ca| quote(&ca.display().to_string())).unwrap_or_default();
    let secret = if mirror.needs_token { SECRET } else { "" };
    line.replace("@SECRET@", secret)
        .replace("@REPOSITORY@", &mirror.repository_url())
        .replace("@HOST@", &mirror.host())
        .replace("@CACHE@", &format!("{}/cache", mirror.url))
        .replace("@NAME@", mirror.repository)
        .replace("@CA@", &ca)
}

const GITHUB: [Template; 2] = [
    Template {
        id: "github-setup-ocaml",
        title: "GitHub Actions with setup-ocaml, on Linux and macOS: steps after actions/checkout",
        comment: "#",
        needs_ca: false,
        text: r#"?@GITHUB_TRUST@
!@GITHUB_TOKEN@
- name: Point opam at the mirror
  run: |
    # setup-ocaml starts with an opam init that names no repository: this file does.
    cat > "$HOME/.opamrc" <<'END'
    opam-version: "2.0"
    repositories: ["default" {"@REPOSITORY@"}]
    archive-mirrors: ["@CACHE@"]
    END
- uses: ocaml/setup-ocaml@v3
  with:
    # By its full name: to find what a number such as 5 means, setup-ocaml asks GitHub.
    ocaml-compiler: ocaml-base-compiler.5.3.0
    # Without this it would go on with opam-repository on GitHub.
    opam-repositories: |
      default: @REPOSITORY@
    # An opam that was cached before the mirror was used knows nothing of it.
    cache-prefix: opam-keep
- run: opam install . --deps-only --with-test --yes"#,
    },
    Template {
        id: "github-container",
        title: "GitHub Actions in a container that has opam and curl: steps after actions/checkout",
        comment: "#",
        needs_ca: false,
        text: r#"?@GITHUB_TRUST@
!@GITHUB_TOKEN@
- name: Point opam at the mirror
  run: |
    @POINT@
- run: opam install . --deps-only --with-test --yes"#,
    },
];

const GITLAB: [Template; 1] = [Template {
    id: "gitlab",
    title: "GitLab CI: a part of .gitlab-ci.yml, and a job that extends it",
    comment: "#",
    needs_ca: false,
    text: r#".opam-keep:
  image: ocaml/opam:debian-12-ocaml-5.3  # or another that has opam and curl
  variables:
    OPAMROOTISOK: "1"  # in many images jobs run as root
  before_script:
?    # OPAM_KEEP_CA is a CI/CD variable of the project or the group, of the type File, with the text of
?    # @CA@
?    - |
?      bundle=$(mktemp)
?      @SYSTEM@
?      cat "${OPAM_KEEP_CA:?is not set: make it a variable of the type File with the text of ca.pem}" >> "$bundle"
?      export CURL_CA_BUNDLE="$bundle"
!    # OPAM_KEEP_TOKEN is a masked CI/CD variable of the project or the group, with what
!    # opam-keep token add NAME printed.
!    - |
!      CURL_HOME=$(mktemp -d)
!      export CURL_HOME
!      @NETRC@
    - |
      @POINT@

build:
  extends: .opam-keep
  script:
    - opam install . --deps-only --with-test --yes"#,
}];

const DOCKER: [Template; 3] = [
    Template {
        id: "docker-opam",
        title: "Dockerfile, from an image that has opam and a switch",
        comment: "#",
        needs_ca: false,
        text: r#"FROM ocaml/opam:debian-12-ocaml-5.3
?# opam-keep-ca.pem, beside the Dockerfile, is a copy of
?# @CA@
?USER root
?COPY opam-keep-ca.pem /usr/local/share/ca-certificates/opam-keep.crt
?RUN update-ca-certificates
?USER opam
!@DOCKER_TOKEN@
RUN @SECRET@opam repository set-url default @REPOSITORY@ --yes
# opam 2.2 and later ask these before the repository's own; images name some of theirs.
RUN sed -i -e '/^archive-mirrors: *\[[^]]*$/,/]/d' -e '/^archive-mirrors:/d' "$HOME/.opam/config" \
 && echo 'archive-mirrors: ["@CACHE@"]' >> "$HOME/.opam/config""#,
    },
    Template {
        id: "docker-debian",
        title: "Dockerfile, from plain Debian",
        comment: "#",
        needs_ca: false,
        text: r#"FROM debian:13
RUN apt-get update \
 && apt-get install --yes --no-install-recommends build-essential ca-certificates curl git opam unzip \
 && rm -rf /var/lib/apt/lists/*
?# opam-keep-ca.pem, beside the Dockerfile, is a copy of
?# @CA@
?COPY opam-keep-ca.pem /usr/local/share/ca-certificates/opam-keep.crt
?RUN update-ca-certificates
!@DOCKER_TOKEN@
ENV OPAMROOTISOK=1
# Containers may not make the sandboxes that opam would build in.
RUN @SECRET@opam init --bare --no-setup --disable-sandboxing --yes default @REPOSITORY@
# In verbatim mode the repository itself may name no cache, or others.
RUN echo 'archive-mirrors: ["@CACHE@"]' >> "$HOME/.opam/config"
RUN @SECRET@opam switch create default --packages=ocaml-base-compiler.5.3.0 --yes"#,
    },
    Template {
        id: "docker-secret",
        title: "Dockerfile, in place of that COPY and update-ca-certificates: the CA as a secret of BuildKit",
        comment: "#",
        needs_ca: true,
        text: r#"# docker build --secret id=opam-keep-ca,src=@CA@ .
RUN --mount=type=secret,id=opam-keep-ca,required=true \
    cp /run/secrets/opam-keep-ca /usr/local/share/ca-certificates/opam-keep.crt \
 && chmod 644 /usr/local/share/ca-certificates/opam-keep.crt \
 && update-ca-certificates"#,
    },
];

const DUNE: [Template; 2] = [
    Template {
        id: "dune-workspace",
        title: "The file dune-workspace, in the root of the project",
        comment: ";",
        needs_ca: false,
        text: r#"(lang dune 3.17)
; No other repository is asked, not even those that dune knows by itself.
(lock_dir (repositories keep))
(repository (name keep) (url .opam-keep))"#,
    },
    Template {
        id: "dune-lock",
        title: "In that directory: take the packages as they are now, and lock what the project needs",
        comment: "#",
        needs_ca: false,
        text: r#"# dune asks no archive cache, only what packages name as their source. So that this is the mirror,
# mirror.toml needs `rewrite_sources = true` below the [[repository]] with the name "@NAME@", and
# server.public_url.
?# opam-keep-ca.pem is a copy of
?# @CA@
?bundle=$(mktemp)
?@SYSTEM@
?cat opam-keep-ca.pem >> "$bundle"
?export CURL_CA_BUNDLE="$bundle"
# dune takes a repository from git or from a directory: this one, which git should ignore.
rm -rf .opam-keep.new && mkdir .opam-keep.new \
 && curl --fail --silent --show-error --retry 3 --output .opam-keep.new/index.tar.gz \
      @REPOSITORY@/index.tar.gz \
 && tar -xzf .opam-keep.new/index.tar.gz -C .opam-keep.new \
 && rm -rf .opam-keep .opam-keep.new/index.tar.gz \
 && mv .opam-keep.new .opam-keep \
 && dune pkg lock"#,
    },
];

/// What several recipes have in common, each for a line that is nothing but its name.
const PARTS: [(&str, &str); 6] = [
    (
        "@SYSTEM@",
        r#"# curl believes this file alone, so it begins with the CAs of the system.
for system in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt \
  /etc/ssl/cert.pem; do
  if [ -f "$system" ]; then cat "$system" > "$bundle"; break; fi
done"#,
    ),
    (
        "@GITHUB_TRUST@",
        r#"- name: Trust the CA of the opam mirror
  env:
    # A certificate is no secret. Once, or for a whole organisation with --org NAME:
    #   gh variable set OPAM_KEEP_CA < @CA@
    OPAM_KEEP_CA: ${{ vars.OPAM_KEEP_CA }}
  run: |
    bundle="$RUNNER_TEMP/opam-keep-ca.pem"
    @SYSTEM@
    printf '\n%s\n' "${OPAM_KEEP_CA:?is not set: give this variable the text of ca.pem}" >> "$bundle"
    echo "CURL_CA_BUNDLE=$bundle" >> "$GITHUB_ENV""#,
    ),
    (
        "@GITHUB_TOKEN@",
        r#"- name: Show the opam mirror a token
  env:
    # What opam-keep token add NAME printed. Once, or for a whole organisation with --org NAME:
    #   gh secret set OPAM_KEEP_TOKEN
    OPAM_KEEP_TOKEN: ${{ secrets.OPAM_KEEP_TOKEN }}
  run: |
    CURL_HOME="$RUNNER_TEMP/opam-keep-curl"
    mkdir -p "$CURL_HOME"
    @NETRC@
    echo "CURL_HOME=$CURL_HOME" >> "$GITHUB_ENV""#,
    ),
    (
        "@NETRC@",
        r#"# curl, which opam asks with, shows the token to this host and to no other.
(umask 077; printf 'machine %s login opam password %s\n' @HOST@ \
  "${OPAM_KEEP_TOKEN:?is not set: give it what opam-keep token add prints}" > "$CURL_HOME/netrc")
printf 'netrc-optional\nnetrc-file = "%s"\n' "$CURL_HOME/netrc" > "$CURL_HOME/.curlrc""#,
    ),
    (
        "@DOCKER_TOKEN@",
        r#"# Reading takes a token: in place of TOKEN, what opam-keep token add NAME printed. As a secret of
# BuildKit it is in no layer of the image:
#   (umask 077; echo 'machine @HOST@ login opam password TOKEN' > ~/.opam-keep-netrc)
#   docker build --secret id=opam-keep-netrc,src=$HOME/.opam-keep-netrc .
# Each RUN that asks the mirror has it by its --mount, as each of yours needs it, too.
RUN ln -s /run/secrets/opam-keep-netrc "$HOME/.netrc" && echo netrc-optional >> "$HOME/.curlrc""#,
    ),
    (
        "@POINT@",
        r#"config="${OPAMROOT:-$HOME/.opam}/config"
if [ -f "$config" ]; then
  opam repository set-url default @REPOSITORY@ --yes
else
  # Containers may not make the sandboxes that opam would build in.
  opam init --bare --no-setup --disable-sandboxing --yes default @REPOSITORY@
  opam switch create default --packages=ocaml-base-compiler.5.3.0 --yes
fi
# opam 2.2 and later ask these before the repository's own; images name some of theirs.
sed -i -e '/^archive-mirrors: *\[[^]]*$/,/]/d' -e '/^archive-mirrors:/d' "$config"
echo 'archive-mirrors: ["@CACHE@"]' >> "$config""#,
    ),
];

/// Nobody but this one step reads it, so it need not be known whose step that is.
const SECRET: &str = "--mount=type=secret,id=opam-keep-netrc,mode=0444,required=true ";

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn nothing_is_left_to_fill_in() {
        let ca = Some(Path::new("/var/lib/it's/ca.pem"));
        for (ca, needs_token) in [(None, false), (ca, false), (None, true), (ca, true)] {
            let (url, repository, is_verbatim) = ("https://opam.corp", "corp", false);
            let mirror = Mirror { url, repository, ca, needs_token, is_verbatim };
            for ci in Ci::value_variants() {
                let recipes = ci.recipes(&mirror);
                assert!(!recipes.is_empty());
                for line in recipes.iter().flat_map(|recipe| &recipe.lines) {
                    assert!(!line.starts_with(['?', '!']), "{line}");
                    assert!(!line.contains('@') || line.contains("setup-ocaml@v3"), "{line}");
                }
            }
        }
    }

    #[test]
    fn a_known_certificate_needs_no_trust() {
        let mirror = Mirror {
            url: "https://opam.corp",
            repository: "corp",
            ca: None,
            needs_token: false,
            is_verbatim: false,
        };
        for ci in Ci::value_variants() {
            for recipe in ci.recipes(&mirror) {
                let text = recipe.lines.join("\n");
                for word in [
                    "CURL_CA_BUNDLE",
                    "OPAM_KEEP_CA",
                    "ca.pem",
                    "ca-certificates\n",
                    "netrc",
                    "TOKEN",
                ] {
                    assert!(!text.contains(word), "{word} in {text}");
                }
            }
        }
    }
}
