//! What the environment sets: `OPAM_KEEP_SECTION__KEY` is `key` of `[section]`.

use super::load::{ConfigError, Mistake};

/// The variables that set a key, in a fixed order, with `section.key` still upper-case.
///
/// # Errors
/// When one names a section alone, or a key in another way: whoever set it believes that it does
/// something.
pub(super) fn overrides(
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Vec<(String, String)>, ConfigError> {
    let mut found: Vec<_> =
        variables.filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX)).collect();
    if let Some((name, _)) = found.iter().find(|(name, _)| SECTIONS.contains(&&*key_of(name))) {
        let message = format!("it names a section: a key is set as {name}__KEY");
        return Err(ConfigError::Environment { name: name.clone(), message });
    }
    for (name, _) in found.iter().filter(|(name, _)| !name.contains("__")) {
        if let Some(message) = meant(name) {
            return Err(ConfigError::Environment { name: name.clone(), message });
        }
    }
    found.retain(|(name, _)| name.contains("__"));
    found.sort();
    Ok(found)
}

/// The key that a variable sets, as `section__key`.
pub(super) fn key_of(name: &str) -> String {
    name[ENVIRONMENT_PREFIX.len()..].to_ascii_lowercase()
}

/// What to write in place of a variable that looks as if it set a key.
///
/// Others are somebody else's: CI services have `OPAM_KEEP_TOKEN`, and Kubernetes sets
/// `OPAM_KEEP_SERVICE_HOST` and more of the kind where a service is called opam-keep.
fn meant(name: &str) -> Option<String> {
    let said = key_of(name);
    let is_meant =
        |(section, key): &(&str, &str)| said == *key || said == format!("{section}_{key}");
    if let Some((section, key)) = keys().find(is_meant) {
        let variable = format!("{ENVIRONMENT_PREFIX}{section}__{key}").to_ascii_uppercase();
        return Some(format!(
            "it sets nothing: {section}.{key} is set as {variable}, and what is not meant for \
             opam-keep needs another name"
        ));
    }
    let is_of_kubernetes = said.contains("_service_") || said.contains("_port");
    let section = SECTIONS.iter().find(|it| said.starts_with(&format!("{it}_")));
    let section = section.filter(|_| !is_of_kubernetes)?.to_ascii_uppercase();
    Some(format!("it sets nothing: a key is set as {ENVIRONMENT_PREFIX}{section}__KEY"))
}

/// Every key that a variable can set, with its section.
fn keys() -> impl Iterator<Item = (&'static str, &'static str)> {
    let mut section = None;
    super::EXAMPLE.lines().filter_map(move |line| {
        let line = line.strip_prefix("# ").unwrap_or(line);
        if let Some(heading) = line.strip_prefix('[') {
            // Sections of which there may be several are for mirror.toml alone.
            section = heading.split(']').next().filter(|name| SECTIONS.contains(name));
            return None;
        }
        let (key, _) = line.split_once(" = ")?;
        let is_key = key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        section.filter(|_| is_key).map(|section| (section, key))
    })
}

/// A configuration with the value that a variable gives a key.
///
/// # Errors
/// When the key is below a list.
pub(super) fn overlay(
    mut table: toml::Table,
    name: &str,
    value: &str,
) -> Result<toml::Table, Mistake> {
    let key = key_of(name);
    let mut parts = key.split("__").peekable();
    let mut at = &mut table;
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            at.insert(part.to_owned(), toml_value(value));
            break;
        }
        let section =
            at.entry(part.to_owned()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        at = section.as_table_mut().ok_or_else(|| {
            Mistake::of_all(format!("\"{part}\" is a list, which only mirror.toml can set"))
        })?;
    }
    Ok(table)
}

/// `value` as TOML when it is TOML (`["a"]`, `16`, `true`), as a plain string otherwise.
pub(super) fn toml_value(value: &str) -> toml::Value {
    match toml::from_str::<toml::Table>(&format!("value = {value}")) {
        Ok(mut table) => table
            .remove("value")
            .filter(|value| !value.is_datetime())
            .unwrap_or_else(|| toml::Value::String(value.to_owned())),
        Err(_) => toml::Value::String(value.to_owned()),
    }
}

/// What the names of variables begin with that set a key.
pub(super) const ENVIRONMENT_PREFIX: &str = "OPAM_KEEP_";
const SECTIONS: [&str; 8] =
    ["server", "access", "store", "repository", "upstream", "policy", "recheck", "alert"];

#[cfg(test)]
mod tests {
    use super::super::Purpose;
    use super::super::load::parse;
    use std::path::Path;

    fn load_text(text: &str, variables: &[(&str, &str)]) -> Result<super::super::Config, String> {
        let variables = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        parse(text, Some(Path::new("mirror.toml")), variables, Purpose::Serving)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_environment_outranks_the_file() {
        let config = load_text(
            "[upstream]\nper_host = 2\nconcurrency = 3\n",
            &[
                ("OPAM_KEEP_UPSTREAM__PER_HOST", "7"),
                ("OPAM_KEEP_UPSTREAM__TIMEOUT", "5s"),
                ("OPAM_KEEP_SERVER__LISTEN", "[\"127.0.0.1:1\"]"),
            ],
        )
        .unwrap();
        let upstream = &config.upstream;
        assert_eq!((upstream.per_host.get(), upstream.concurrency.get()), (7, 3));
        assert_eq!(config.upstream.timeout.get().as_secs(), 5);
        assert_eq!(config.server.listen[0].port(), 1);

        let error = load_text("", &[("OPAM_KEEP_UPSTREAM__TIMEOUT", "x")]).unwrap_err();
        assert!(error.starts_with("environment variable OPAM_KEEP_UPSTREAM__TIMEOUT: "), "{error}");
        let error = load_text(
            "[[repository]]\nname = \"a\"\nupstream = \"https://x\"",
            &[("OPAM_KEEP_REPOSITORY__NAME", "b")],
        )
        .unwrap_err();
        assert!(error.contains("only mirror.toml can set"), "{error}");
    }

    #[test]
    fn a_section_alone_is_refused_and_what_is_not_ours_is_not() {
        let example: toml::Table = crate::config::EXAMPLE.parse().unwrap();
        for section in example.keys() {
            let name = format!("OPAM_KEEP_{}", section.to_ascii_uppercase());
            let error = load_text("", &[(&name, "/x")]).unwrap_err();
            assert!(error.contains(&format!("{name}: it names a section")), "{error}");
        }
        for name in [
            "OPAM_KEEP_CONFIG",
            "OPAM_KEEP_LOG",
            "OPAM_KEEP_TOKEN",
            "OPAM_KEEP_CLIENTS",
            "OPAM_KEEP_PORT_8443_TCP",
            "OPAM_KEEP_SERVICE_HOST",
            "OPAM_KEEP_SERVER_SERVICE_PORT_HTTPS",
            "STORE",
        ] {
            load_text("", &[(name, "x")]).unwrap();
        }
    }

    #[test]
    fn a_key_that_is_set_in_another_way_is_told_how() {
        for (name, told) in [
            ("OPAM_KEEP_OFFLINE", "upstream.offline is set as OPAM_KEEP_UPSTREAM__OFFLINE"),
            ("OPAM_KEEP_SERVER_LISTEN", "server.listen is set as OPAM_KEEP_SERVER__LISTEN"),
            ("OPAM_KEEP_SERVER_PUBLIC_URL", "is set as OPAM_KEEP_SERVER__PUBLIC_URL"),
            ("OPAM_KEEP_STORE_MIN_FREE", "is set as OPAM_KEEP_STORE__MIN_FREE"),
            ("OPAM_KEEP_MAX_REMOVED", "is set as OPAM_KEEP_POLICY__MAX_REMOVED"),
            ("OPAM_KEEP_STALE_AFTER", "is set as OPAM_KEEP_ALERT__STALE_AFTER"),
            ("OPAM_KEEP_SERVER_LISTN", "a key is set as OPAM_KEEP_SERVER__KEY"),
        ] {
            let error = load_text("", &[(name, "1")]).unwrap_err();
            let sentence = format!("environment variable {name}: it sets nothing: ");
            assert!(error.starts_with(&sentence) && error.contains(told), "{error}");
        }
    }
}
