//! A point in a repository's past, as `/at/<when>/` names it.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// A point in the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum When {
    /// The end of a UTC day.
    Day(Date),
    /// A time.
    Time(Timestamp),
    /// When the ledger had so many entries.
    Size(u64),
}

/// A text that names no point in the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{}", Self::SENTENCE)]
pub struct NotAPoint;

impl NotAPoint {
    /// What to write instead.
    pub const SENTENCE: &str = "after /at/ comes a date (2026-05-20), a time \
                                (2026-05-20T12:00:00Z) or the ledger's size (1234)";
}

/// The last second of a UTC day.
pub(super) fn end_of(day: Date) -> Timestamp {
    let last = day.at(23, 59, 59, 0).to_zoned(TimeZone::UTC);
    // Only the last hours of the year 9999 are beyond what a timestamp holds.
    last.map_or(Timestamp::MAX, |last| last.timestamp())
}

/// The second that a time is in: the ledger's times have no fractions.
pub(super) fn second_of(time: Timestamp) -> Timestamp {
    let second = time.as_second() - i64::from(time.subsec_nanosecond() < 0);
    Timestamp::from_second(second).unwrap_or(time)
}

impl FromStr for When {
    type Err = NotAPoint;

    fn from_str(text: &str) -> Result<Self, NotAPoint> {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if is_number {
            // No ledger is as large as what does not fit.
            return Ok(Self::Size(text.parse().unwrap_or(u64::MAX)));
        }
        let parsed = match shape_of(text).as_str() {
            "dddd-dd-dd" => text.parse().ok().map(Self::Day),
            shape if is_time(shape) => text.parse().ok().map(Self::Time),
            _ => None,
        };
        parsed.ok_or(NotAPoint)
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Day(day) => write!(f, "{day}"),
            Self::Time(time) => write!(f, "{time}"),
            Self::Size(size) => write!(f, "{size}"),
        }
    }
}

/// The text with a `d` for each digit.
fn shape_of(text: &str) -> String {
    text.chars().take(MAX_LENGTH + 1).map(|c| if c.is_ascii_digit() { 'd' } else { c }).collect()
}

/// RFC 3339 section 5.6, which is less than other readers of times take.
fn is_time(shape: &str) -> bool {
    let rest = ["dddd-dd-ddTdd:dd:dd", "dddd-dd-ddtdd:dd:dd"];
    let Some(rest) = rest.iter().find_map(|start| shape.strip_prefix(start)) else { return false };
    let offset = match rest.strip_prefix('.') {
        Some(fraction) if fraction.starts_with('d') => fraction.trim_start_matches('d'),
        Some(_) => return false,
        None => rest,
    };
    shape.len() <= MAX_LENGTH && matches!(offset, "Z" | "z" | "+dd:dd" | "-dd:dd")
}

/// Longest time, with nanoseconds and an offset.
const MAX_LENGTH: usize = 35;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dates_times_and_sizes_are_understood() {
        for (text, last) in [
            ("2026-05-20", "2026-05-20T23:59:59Z"),
            ("2026-05-20T12:00:00Z", "2026-05-20T12:00:00Z"),
            ("2026-05-20t12:00:00z", "2026-05-20T12:00:00Z"),
            ("2026-05-20T12:00:00.25+02:00", "2026-05-20T10:00:00Z"),
            ("2026-05-20T12:00:00-02:30", "2026-05-20T14:30:00Z"),
        ] {
            let last_second = match text.parse().unwrap() {
                When::Day(day) => end_of(day),
                When::Time(time) => second_of(time),
                When::Size(size) => panic!("{size}"),
            };
            assert_eq!(last_second.to_string(), last);
        }
        assert_eq!("1234".parse(), Ok(When::Size(1234)));
        assert_eq!("99999999999999999999999".parse(), Ok(When::Size(u64::MAX)));
        assert_eq!(end_of(Date::MAX), Timestamp::MAX);
        assert_eq!(second_of("1969-12-31T23:59:58.5Z".parse().unwrap()).as_second(), -2);
    }

    #[test]
    fn nothing_else_is() {
        for text in [
            "",
            "x",
            "-1",
            "+1",
            "1.5",
            "2026-5-20",
            "2026-13-01",
            "2026-02-30",
            "2026-05",
            "2026-05-20T12:00:00",
            "2026-05-20 12:00:00Z",
            "2026-05-20T12:00Z",
            "2026-05-20T25:00:00Z",
            "2026-05-20T12:00:00.Z",
            "2026-05-20T12:00:00Z[UTC]",
            "2026-05-20T12:00:00+99:00",
            "２０２６-05-20",
            "yesterday",
        ] {
            assert_eq!(text.parse::<When>(), Err(NotAPoint), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text: String, near in "[0-9TZtz:.+-]{0,40}") {
            for text in [text, near] {
                if let Ok(When::Day(day)) = text.parse() {
                    end_of(day);
                }
            }
        }
    }
}
