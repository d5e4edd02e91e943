//! Which commit of a git repository is meant.

use super::git_tree::is_object_name;
use percent_encoding::percent_decode_str;

/// What the URL's fragment asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reference {
    Head,
    Named(String),
    Commit(String),
}

impl Reference {
    pub(super) fn new(fragment: Option<&str>) -> Result<Self, &'static str> {
        let Some(fragment) = fragment.filter(|fragment| !fragment.is_empty()) else {
            return Ok(Self::Head);
        };
        let name = percent_decode_str(fragment)
            .decode_utf8()
            .map_err(|_| "the branch after '#' is not UTF-8")?;
        if is_object_name(&name) {
            return Ok(Self::Commit(name.into_owned()));
        }
        // git-check-ref-format(1), as far as it keeps a name from meaning something else.
        let special = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
        if name.starts_with(['-', '/', '.'])
            || name.ends_with(['/', '.'])
            || name.contains("..")
            || name.contains("@{")
            || name.contains(special)
        {
            return Err("what comes after '#' can't be the name of a branch or tag");
        }
        Ok(Self::Named(name.into_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fragment_is_a_branch_a_tag_or_a_commit_and_nothing_clever() {
        assert_eq!(Reference::new(None), Ok(Reference::Head));
        assert_eq!(Reference::new(Some("")), Ok(Reference::Head));
        assert_eq!(Reference::new(Some("a/b")), Ok(Reference::Named("a/b".to_owned())));
        let commit = "587be6b4c3f93f93c489c0111bba5596147a26cb";
        assert_eq!(Reference::new(Some(commit)), Ok(Reference::Commit(commit.to_owned())));
        for clever in [
            "--upload-pack=x",
            "-x",
            "a:b",
            "a%3Ab",
            "a..b",
            "a^",
            "a~1",
            "@{-1}",
            "a%20b",
            "a%00b",
            "a*",
            "/a",
            "%ff",
        ] {
            assert!(Reference::new(Some(clever)).is_err(), "{clever}");
        }
    }
}
