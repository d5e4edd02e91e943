//! Texts short enough to be kept and shown.

use super::fact::Fact;

/// The longest text of one state of a change, in bytes.
pub const MAX_CHANGE_TEXT: usize = 2 << 10;
/// The longest text of one line of it.
const MAX_LINE: usize = 1 << 10;
/// How much is shown of what is alike before two long lines differ.
const CONTEXT: usize = 64;
/// What a mark that something was cut takes at the most.
const MARK: usize = 48;

/// The lines, as far as they fit; none if there are none.
pub(super) fn excerpt(lines: impl IntoIterator<Item = String>) -> Option<String> {
    let text = lines.into_iter().collect::<Vec<_>>().join("\n");
    (!text.is_empty()).then(|| cut(text, MAX_CHANGE_TEXT))
}

/// Both states of some facts, as far as they fit, with the place in them where they differ.
pub(super) fn excerpts(facts: &[Fact]) -> (Option<String>, Option<String>) {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for fact in facts {
        let (old, new) = (fact.before.as_deref(), fact.after.as_deref());
        let longest = old.map_or(0, str::len).max(new.map_or(0, str::len));
        let skipped = match (old, new) {
            (Some(old), Some(new)) if longest > MAX_LINE => alike(old, new),
            _ => 0,
        };
        before.extend(old.map(|text| line(&fact.label, text, skipped)));
        after.extend(new.map(|text| line(&fact.label, text, skipped)));
    }
    (excerpt(before), excerpt(after))
}

/// How many leading bytes of both texts can be left out, with some context kept.
fn alike(left: &str, right: &str) -> usize {
    let pairs = left.bytes().zip(right.bytes());
    let alike = pairs.take_while(|(left, right)| left == right).count();
    left.floor_char_boundary(alike.saturating_sub(CONTEXT))
}

fn line(label: &str, text: &str, skipped: usize) -> String {
    let shown = cut(text.get(skipped..).unwrap_or_default().to_owned(), MAX_LINE);
    match skipped {
        0 => format!("{label}: {shown}"),
        _ => format!("{label}: [cut: {skipped} bytes that are the same] {shown}"),
    }
}

fn cut(mut text: String, longest: usize) -> String {
    if text.len() > longest {
        let kept = text.floor_char_boundary(longest.saturating_sub(MARK));
        let mark = format!(" [cut: {} more bytes]", text.len() - kept);
        text.truncate(kept);
        text.push_str(&mark);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(before: &str, after: &str) -> Fact {
        let text = |text: &str| Some(text.to_owned());
        Fact { label: "x".to_owned(), before: text(before), after: text(after) }
    }

    #[test]
    fn a_difference_far_inside_of_a_long_text_shows() {
        let start = "é".repeat(100_000);
        let (before, after) = excerpts(&[fact(&format!("{start}old"), &format!("{start}new"))]);
        let (before, after) = (before.unwrap(), after.unwrap());
        assert!(before.starts_with("x: [cut: 199936 bytes that are the same] é"), "{before}");
        assert!(before.ends_with("éold") && after.ends_with("énew"), "{before}");
    }

    #[test]
    fn no_text_is_longer_than_it_may_be_and_a_cut_is_marked() {
        let facts: Vec<Fact> = (0..100).map(|_| fact("a", &"é".repeat(10_000))).collect();
        let (before, after) = excerpts(&facts);
        assert_eq!(before.unwrap().len(), 100 * "x: a\n".len() - 1);
        let after = after.unwrap();
        assert!(after.len() <= MAX_CHANGE_TEXT && after.ends_with(" more bytes]"), "{after}");
        assert_eq!(excerpts(&[]), (None, None));
    }
}
