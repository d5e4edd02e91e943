//! mirror.toml: a mistake is one sentence with its place, and what a file says can be said by the
//! environment as well.

use opam_keep::config::{ConfigError, Purpose, parse};
use std::path::Path;

/// A file that is taken says the same the second time; one that is not says where, in one line.
pub fn mirror_toml(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let path = Some(Path::new("mirror.toml"));
    match parse(text, path, std::iter::empty(), Purpose::Serving) {
        Ok(config) => {
            assert!(!config.repository.is_empty());
            let again = parse(text, path, std::iter::empty(), Purpose::Serving)
                .expect("it was taken before");
            assert_eq!(format!("{again:?}"), format!("{config:?}"));
            let offline = ("OPAM_KEEP_UPSTREAM__OFFLINE".to_owned(), "true".to_owned());
            let config = parse(text, path, std::iter::once(offline), Purpose::Serving);
            assert!(config.expect("the environment adds to it").upstream.offline);
        }
        Err(error) => {
            let sentence = error.to_string();
            assert!(!sentence.contains('\n') && sentence.starts_with("mirror.toml:"), "{sentence}");
            if let ConfigError::Invalid { line, column, .. } = error {
                assert!((1..=1 + text.matches('\n').count()).contains(&line), "{sentence}");
                let line = text.split('\n').nth(line - 1).expect("the line is there");
                assert!((1..=1 + line.chars().count()).contains(&column), "{sentence}");
            }
        }
    }
}
