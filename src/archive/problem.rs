//! Why an archive could not be read to its end.

use super::name::printable;
use serde::{Deserialize, Serialize};
use std::io;

/// What ended a reading early. Said of "it": the archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "problem", rename_all = "kebab-case")]
pub enum Problem {
    /// The bytes end before the archive does.
    #[error("it ends early")]
    EndsEarly,
    /// The bytes are not what the format asks for.
    #[error("it is damaged: {why}")]
    Damaged {
        /// What is wrong, printable.
        why: String,
    },
    /// The format allows it, this reader does not know it.
    #[error("it has {what}, which can't be read here")]
    Unsupported {
        /// What it has.
        what: String,
    },
    /// A header that contradicts itself or another one, or is beyond what all readers know.
    #[error("the headers of \"{path}\" can be read in more than one way")]
    Ambiguous {
        /// The entry.
        path: String,
    },
    /// Two entries of a zip share bytes: a bomb, or one archive with two readings.
    #[error("its entries overlap")]
    Overlap,
    /// More inflated bytes than allowed.
    #[error("it inflates to more than {limit} bytes")]
    TooLarge {
        /// How many are allowed.
        limit: u64,
    },
    /// More entries than allowed.
    #[error("it has more than {limit} entries")]
    TooManyEntries {
        /// How many are allowed.
        limit: usize,
    },
    /// More members, streams or frames than allowed.
    #[error("it has more than {limit} compressed parts")]
    TooManyMembers {
        /// How many are allowed.
        limit: usize,
    },
    /// A longer name or link target than allowed.
    #[error("it has a name of more than {limit} bytes")]
    NameTooLong {
        /// How many bytes are allowed.
        limit: usize,
    },
    /// More bytes of names than allowed.
    #[error("its names have more than {limit} bytes together")]
    NamesTooLarge {
        /// How many bytes are allowed.
        limit: usize,
    },
    /// A larger extended header than allowed.
    #[error("it has an extended header of more than {limit} bytes")]
    HeaderTooLarge {
        /// How many bytes are allowed.
        limit: usize,
    },
    /// Inflating would take more memory than allowed.
    #[error("inflating it needs a window of more than {limit} bytes")]
    WindowTooLarge {
        /// How many bytes are allowed.
        limit: u64,
    },
}

impl Problem {
    /// Damage, described by someone else's words.
    pub(super) fn damaged(why: impl std::fmt::Display) -> Self {
        Self::Damaged { why: printable(why.to_string().as_bytes(), LONGEST_REASON) }
    }
}

impl From<io::Error> for Problem {
    /// What a decoder says; a problem that travelled inside an I/O error comes out as it was.
    fn from(error: io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Self>());
        match (inner, error.kind()) {
            (Some(problem), _) => problem.clone(),
            (None, io::ErrorKind::UnexpectedEof) => Self::EndsEarly,
            (None, _) => Self::damaged(error),
        }
    }
}

impl From<Problem> for io::Error {
    fn from(problem: Problem) -> Self {
        Self::other(problem)
    }
}

const LONGEST_REASON: usize = 200;
