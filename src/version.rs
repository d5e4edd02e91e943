//! Which opam-keep this is.

/// A version, and the commit that it was built from where that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// The version, as in its package.
    pub number: &'static str,
    /// The commit's abbreviated hash.
    pub commit: Option<&'static str>,
    /// Both in one text, as `--version` prints them.
    pub text: &'static str,
}

/// This version.
pub const VERSION: Version = Version {
    number: env!("CARGO_PKG_VERSION"),
    commit: option_env!("OPAM_KEEP_COMMIT"),
    text: env!("OPAM_KEEP_VERSION"),
};
