//! Natural order: `clip 2` before `clip 10`.

use std::cmp::Ordering;

/// Compares two keys the way people number files: runs of digits by value, the rest by character, without case.
/// Keys that are equal that way are ordered by their bytes, so that the order is total.
pub fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    loop {
        let (Some(x), Some(y)) = (left.chars().next(), right.chars().next()) else {
            return left.len().cmp(&right.len()).then_with(|| a.cmp(b));
        };
        if x.is_ascii_digit() && y.is_ascii_digit() {
            let (m, rest_left) = number(left);
            let (n, rest_right) = number(right);
            let by_value = m.len().cmp(&n.len()).then_with(|| m.cmp(n));
            if by_value != Ordering::Equal {
                return by_value;
            }
            (left, right) = (rest_left, rest_right);
        } else {
            // A folder's files come before its subfolders' neighbours: '/' sorts lowest.
            let rank = |c: char| if c == '/' { '\0' } else { c };
            let by_letter = rank(x).to_lowercase().cmp(rank(y).to_lowercase());
            if by_letter != Ordering::Equal {
                return by_letter;
            }
            (left, right) = (&left[x.len_utf8()..], &right[y.len_utf8()..]);
        }
    }
}

/// The run of digits at the start, without leading zeros, and what follows it.
fn number(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (text[..end].trim_start_matches('0'), &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_count_by_value_and_case_does_not_count() {
        let mut keys = ["b.mp4", "Clip 10.mp4", "clip 2.mp4", "a/z.mp4", "a b.mp4", "clip 002.mp4", "Äb.mp4"];
        keys.sort_by(|a, b| natural(a, b));
        assert_eq!(
            keys,
            ["a/z.mp4", "a b.mp4", "b.mp4", "clip 002.mp4", "clip 2.mp4", "Clip 10.mp4", "Äb.mp4"]
        );
    }
}
