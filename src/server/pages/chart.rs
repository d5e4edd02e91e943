//! Small charts of the last days, drawn here.

use super::shown::{bytes, grouped};
use crate::server::traffic::Hour;

/// Bars side by side, each of parts on top of each other.
pub(super) struct Chart {
    pub title: &'static str,
    /// The same in words, for who can't see it.
    pub words: String,
    /// What the full height stands for.
    pub most: String,
    /// What each kind of part stands for.
    pub legend: &'static [(&'static str, &'static str)],
    pub bars: Vec<Part>,
}

/// A rectangle, in units of the drawing.
pub(super) struct Part {
    pub kind: &'static str,
    pub x: usize,
    pub y: u64,
    pub height: u64,
}

impl Chart {
    /// How wide a drawing of so many hours is.
    pub(super) const WIDTH: usize = HOURS as usize * STEP;
    /// How high every drawing is.
    pub(super) const HEIGHT: u64 = 100;

    /// Archives by whether they were here.
    pub(super) fn of_archives(hours: &[Hour]) -> Self {
        let all = |it: &Hour| it.hits + it.misses + it.unasked;
        let total = hours.iter().map(all).sum();
        let hits: u64 = hours.iter().map(|it| it.hits).sum();
        let words = match total {
            0 => "Nobody asked for an archive.".to_owned(),
            total => format!(
                "{:.1} % of {} archives were here already.",
                hits as f64 * 100.0 / total as f64,
                grouped(total)
            ),
        };
        let most = hours.iter().map(all).max().unwrap_or_default();
        let parts = |it: &Hour| [("hit", it.hits), ("miss", it.misses), ("unasked", it.unasked)];
        let bars = bars(hours, most, parts);
        Self {
            title: "Archives asked for",
            words,
            most: grouped(most),
            legend: &[
                ("hit", "were here"),
                ("miss", "had to be fetched first"),
                ("unasked", "not to be had, and nobody was asked"),
            ],
            bars,
        }
    }

    /// Bytes that were sent.
    pub(super) fn of_bytes(hours: &[Hour]) -> Self {
        let total = hours.iter().map(|it| it.bytes).sum();
        let words = format!("{} of archives and indexes.", bytes(total));
        let most = hours.iter().map(|it| it.bytes).max().unwrap_or_default();
        let bars = bars(hours, most, |it| [("sent", it.bytes)]);
        let legend = &[("sent", "archives and indexes")];
        Self { title: "Sent", words, most: bytes(most), legend, bars }
    }
}

fn bars<const PARTS: usize>(
    hours: &[Hour],
    most: u64,
    parts: impl Fn(&Hour) -> [(&'static str, u64); PARTS],
) -> Vec<Part> {
    let mut bars = Vec::new();
    for (place, hour) in hours.iter().enumerate() {
        let mut top = Chart::HEIGHT;
        for (kind, count) in parts(hour).into_iter().filter(|(_, count)| *count > 0) {
            let scaled = u128::from(count) * u128::from(Chart::HEIGHT) / u128::from(most.max(1));
            // What is there at all can be seen.
            let height = u64::try_from(scaled).unwrap_or(Chart::HEIGHT).clamp(1, top.max(1));
            top = top.saturating_sub(height);
            bars.push(Part { kind, x: place * STEP, y: top, height });
        }
    }
    bars
}

/// How many hours a chart shows.
pub(super) const HOURS: i64 = 7 * 24;
const STEP: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_tells_in_words_what_it_shows() {
        let hour = |hits, misses, bytes| Hour { hits, misses, unasked: 0, bytes };
        let hours = [hour(0, 0, 0), hour(1_000, 10, 1 << 20), hour(1_000_000, 0, 1 << 30)];
        let archives = Chart::of_archives(&hours);
        assert!(
            archives.words.starts_with("100.0 % of 1\u{202f}001\u{202f}010"),
            "{}",
            archives.words
        );
        let seen: Vec<_> =
            archives.bars.iter().map(|it| (it.kind, it.x, it.y, it.height)).collect();
        assert_eq!(seen, [("hit", 3, 99, 1), ("miss", 3, 98, 1), ("hit", 6, 0, 100)]);
        assert_eq!(Chart::of_bytes(&hours).words, "1.0 GiB of archives and indexes.");
        assert_eq!(Chart::of_archives(&[]).words, "Nobody asked for an archive.");
        let full = [hour(u64::MAX / 2, u64::MAX / 2, u64::MAX)];
        assert_eq!(Chart::of_bytes(&full).bars[0].height, 100);
    }
}
