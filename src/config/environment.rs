//! What the environment sets: `OPAM_KEEP_SECTION__KEY` is `key` of `[section]`.

use super::load::{ConfigError, Mistake};

/// The variables that set a key, in a fixed order, with `section.key` still upper-case.
///
/// # Errors
/// When one names a section alone: whoever set it believes that it does something.
pub(super) fn overrides(
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Vec<(String, String)>, ConfigError> {
    let mut found: Vec<_> =
        variables.filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX)).collect();
    if let Some((name, _)) = found.iter().find(|(name, _)| SECTIONS.contains(&&*key_of(name))) {
        let message = format!("it names a section: a key is set as {name}__KEY");
        return Err(ConfigError::Environment { name: name.clone(), message });
    }
    found.retain(|(name, _)| name.contains("__"));
    found.sort();
    Ok(found)
}

/// The key that a variable sets, as `section__key`.
pub(super) fn key_of(name: &str) -> String {
    name[ENVIRONMENT_PREFIX.len()..].to_ascii_lowercase()
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
        let example: toml::Table = include_str!("../../mirror.toml.example").parse().unwrap();
        for section in example.keys() {
            let name = format!("OPAM_KEEP_{}", section.to_ascii_uppercase());
            let error = load_text("", &[(&name, "/x")]).unwrap_err();
            assert!(error.contains(&format!("{name}: it names a section")), "{error}");
        }
        load_text("", &[("OPAM_KEEP_CONFIG", "x"), ("OPAM_KEEP_LOG", "info"), ("STORE", "x")])
            .unwrap();
    }
}
