//! opam's order of versions (`opamVersionCompare.ml`, after Debian's).

use std::cmp::Ordering;

/// Compares two versions as opam's solver does.
///
/// A version is split at its last `-`, and the parts are compared one after the other. In each
/// part runs of non-digits and of digits alternate: digits compare as numbers of any length; in
/// the others `~` sorts before everything, even the end, then the end, then letters, then the
/// rest by their bytes. Some different texts are equal in this order, such as `1.0` and `1.00`.
pub(super) fn compare(left: &str, right: &str) -> Ordering {
    let (left_upstream, left_revision) = split_revision(left);
    let (right_upstream, right_revision) = split_revision(right);
    compare_parts(left_upstream, right_upstream)
        .then_with(|| compare_parts(left_revision, right_revision))
}

/// One text for all versions that are equal in this order.
pub(super) fn normal(version: &str) -> String {
    let (upstream, revision) = split_revision(version);
    let mut normal = String::new();
    for part in [upstream, revision] {
        let (mut rest, mut runs) = (part, Vec::new());
        while !rest.is_empty() {
            let text = split_run(&mut rest, false);
            runs.push((text, without_zeros(split_run(&mut rest, true))));
        }
        // A zero at the end says as much as nothing.
        while runs.pop_if(|(text, number)| text.is_empty() && number.is_empty()).is_some() {}
        for run in runs.into_iter().flat_map(|(text, number)| [text, number]) {
            normal.push_str(&String::from_utf8_lossy(run));
            normal.push(' ');
        }
        normal.push('/');
    }
    normal
}

fn split_revision(version: &str) -> (&[u8], &[u8]) {
    let (upstream, revision) = version.rsplit_once('-').unwrap_or((version, ""));
    (upstream.as_bytes(), revision.as_bytes())
}

fn compare_parts(mut left: &[u8], mut right: &[u8]) -> Ordering {
    while !left.is_empty() || !right.is_empty() {
        let order = compare_texts(split_run(&mut left, false), split_run(&mut right, false))
            .then_with(|| compare_numbers(split_run(&mut left, true), split_run(&mut right, true)));
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

/// Takes the leading run of digits, or of anything else, off `rest`.
fn split_run<'a>(rest: &mut &'a [u8], digits: bool) -> &'a [u8] {
    let length = rest.iter().take_while(|byte| byte.is_ascii_digit() == digits).count();
    let (run, after) = rest.split_at(length);
    *rest = after;
    run
}

fn compare_texts(left: &[u8], right: &[u8]) -> Ordering {
    let longest = left.len().max(right.len());
    let rank_at = |text: &[u8], at: usize| rank(text.get(at).copied());
    (0..longest)
        .map(|at| rank_at(left, at).cmp(&rank_at(right, at)))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

fn rank(byte: Option<u8>) -> (u8, u8) {
    match byte {
        Some(b'~') => (0, 0),
        None => (1, 0),
        Some(letter) if letter.is_ascii_alphabetic() => (2, letter),
        Some(other) => (3, other),
    }
}

fn compare_numbers(left: &[u8], right: &[u8]) -> Ordering {
    let (left, right) = (without_zeros(left), without_zeros(right));
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

fn without_zeros(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    &digits[zeros..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn versions_sort_as_opam_sorts_them() {
        // From opam's manual and from its compare-versions test.
        let sorted = [
            "~~", "~", "~beta2", "~beta10", "0.1", "1.0~beta", "1.0", "1.0-test", "1.0.1",
            "1.0.10", "dev", "trunk",
        ];
        for pair in sorted.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compare(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
        for (left, right) in [("1.0", "1.00"), ("1", "1-0"), ("1", "1-"), ("a", "a0"), ("", "0")] {
            assert_eq!(compare(left, right), Ordering::Equal, "{left} {right}");
            assert_eq!(normal(left), normal(right), "{left} {right}");
        }
        let (smaller, larger) = (format!("{}8", "9".repeat(400)), format!("{}9", "9".repeat(400)));
        assert_eq!(compare(&smaller, &larger), Ordering::Less);
    }

    proptest! {
        #[test]
        fn the_order_is_total(a in "[a0~.+-]{0,6}", b in "[a0~.+-]{0,6}", c in "[a0~.+-]{0,6}") {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            if compare(&a, &b).is_le() && compare(&b, &c).is_le() {
                prop_assert!(compare(&a, &c).is_le());
            }
        }

        #[test]
        fn what_is_equal_has_one_normal_form(a in "[a01~.+-]{0,6}", b in "[a01~.+-]{0,6}") {
            prop_assert_eq!(normal(&a) == normal(&b), compare(&a, &b).is_eq(), "{} {}", a, b);
        }

        #[test]
        fn it_is_the_order_of_opams_own_loop(a in "[ab01~.+-]{0,8}", b in "[ab01~.+-]{0,8}") {
            prop_assert_eq!(compare(&a, &b), as_opam_does(&a, &b), "{} {}", a, b);
        }
    }

    /// opam's character loop, followed step by step.
    fn as_opam_does(left: &str, right: &str) -> Ordering {
        let cut = |text: &str| {
            let at = text.rfind('-').unwrap_or(text.len());
            (text[..at].to_owned(), text.get(at + 1..).unwrap_or("").to_owned())
        };
        let ((left, left_revision), (right, right_revision)) = (cut(left), cut(right));
        lexical(left.as_bytes(), right.as_bytes())
            .then_with(|| lexical(left_revision.as_bytes(), right_revision.as_bytes()))
    }

    fn lexical(left: &[u8], right: &[u8]) -> Ordering {
        match (left, right) {
            ([], []) => Ordering::Equal,
            ([], rest) => match without_zeros(rest) {
                [] => Ordering::Equal,
                [b'~', ..] => Ordering::Greater,
                _ => Ordering::Less,
            },
            (_, []) => lexical(right, left).reverse(),
            ([a, ..], [b, ..]) if a.is_ascii_digit() && b.is_ascii_digit() => {
                let (mut left, mut right) = (without_zeros(left), without_zeros(right));
                let (a, b) = (split_run(&mut left, true), split_run(&mut right, true));
                a.len().cmp(&b.len()).then(a.cmp(b)).then_with(|| lexical(left, right))
            }
            ([a, ..], [b'~', ..]) if a.is_ascii_digit() => Ordering::Greater,
            ([a, ..], [_, ..]) if a.is_ascii_digit() => Ordering::Less,
            ([_, ..], [b, ..]) if b.is_ascii_digit() => lexical(right, left).reverse(),
            ([a, left @ ..], [b, right @ ..]) => {
                rank(Some(*a)).cmp(&rank(Some(*b))).then_with(|| lexical(left, right))
            }
        }
    }
}
