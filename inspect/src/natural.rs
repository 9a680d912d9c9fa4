//! The order of children: the numbers inside names count as numbers.

use core::cmp::Ordering;

/// Compares two names as a person would sort them.
///
/// A name is a sequence of decimal numbers (`10`), hexadecimal numbers (`0x1f`), and other bytes;
/// where they differ in kind, decimal numbers come first, then hexadecimal ones, then bytes.
/// Numbers compare by value, whatever their length. Names that are equal in this sense (`a1` and
/// `a01`) compare as strings, so that only equal names compare as equal.
pub(crate) fn compare(left: &str, right: &str) -> Ordering {
    // Most names of one directory differ before their first digit, and then as strings do.
    let mut pairs = left.bytes().zip(right.bytes());
    match pairs.find(|(l, r)| l != r || l.is_ascii_digit()) {
        Some((l, r)) if !l.is_ascii_digit() && !r.is_ascii_digit() => l.cmp(&r),
        _ => compare_pieces(left, right),
    }
}

/// Compares names with numbers in them.
fn compare_pieces(left: &str, right: &str) -> Ordering {
    let (mut l, mut r) = (left.as_bytes(), right.as_bytes());
    loop {
        let order = match (next(&mut l), next(&mut r)) {
            (None, None) => return left.cmp(right),
            (l, r) => l.cmp(&r),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// A piece of a name. The variants stand in the order that [`compare`] promises; a name that has
/// ended comes before one that goes on, as `None` comes before `Some`.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Piece<'a> {
    // A number is its digits without leading zeros: the longer is the greater, and among equally
    // long ones the order of the bytes decides.
    Decimal(usize, &'a [u8]),
    Hex(usize, &'a [u8]),
    Byte(u8),
}

fn next<'a>(name: &mut &'a [u8]) -> Option<Piece<'a>> {
    let (&first, rest) = name.split_first()?;
    if !first.is_ascii_digit() {
        *name = rest;
        return Some(Piece::Byte(first));
    }
    // Only lower case is a hexadecimal digit here, so that the order of the bytes is the order of
    // the digits. It is also what Rust's `{:#x}` writes.
    let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    match *name {
        [b'0', b'x', digits @ ..] if digits.first().is_some_and(is_hex) => {
            let (digits, rest) = split_run(digits, is_hex);
            *name = rest;
            Some(Piece::Hex(digits.len(), digits))
        }
        all => {
            let (digits, rest) = split_run(all, u8::is_ascii_digit);
            *name = rest;
            Some(Piece::Decimal(digits.len(), digits))
        }
    }
}

/// Splits off the leading bytes that are digits, and drops their leading zeros.
fn split_run(bytes: &[u8], is_digit: impl Fn(&u8) -> bool) -> (&[u8], &[u8]) {
    let end = bytes
        .iter()
        .position(|byte| !is_digit(byte))
        .unwrap_or(bytes.len());
    let (digits, rest) = bytes.split_at(end);
    let zeros = digits
        .iter()
        .position(|&byte| byte != b'0')
        .unwrap_or(digits.len());
    (digits.get(zeros..).unwrap_or_default(), rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use proptest::prelude::*;

    fn check(sorted: &[&str]) {
        for (i, left) in sorted.iter().enumerate() {
            for (j, right) in sorted.iter().enumerate() {
                assert_eq!(compare(left, right), i.cmp(&j), "{left:?} and {right:?}");
            }
        }
    }

    #[test]
    fn numbers_count_as_numbers() {
        check(&["a", "a1", "a2", "a10", "b"]);
        check(&[
            "0",
            "1",
            "9",
            "10",
            "18446744073709551616",
            "100000000000000000000000",
        ]);
        check(&["slot 2 of 10", "slot 10 of 2", "slot 10 of 10"]);
    }

    #[test]
    fn addresses_sort_by_value() {
        check(&[
            "0x0-0x9ffff",
            "0xa0000-0xbffff",
            "0xf0000-0xfffff",
            "0x100000-0x3ffffff",
        ]);
        check(&["0xz", "10", "0x2", "0x10", "x"]);
    }

    #[test]
    fn equal_numbers_fall_back_to_strings() {
        check(&["a01", "a1", "a1b", "a2"]);
        check(&["", "00", "000", "1"]);
    }

    proptest! {
        #[test]
        fn the_short_way_is_the_long_way(left in "[0-2x a-b]{0,6}", right in "[0-2x a-b]{0,6}") {
            prop_assert_eq!(compare(&left, &right), compare_pieces(&left, &right));
        }

        #[test]
        fn is_a_total_order(names in proptest::array::uniform3("[0-2x a-b]{0,6}")) {
            let [a, b, c] = &names;
            prop_assert_eq!(compare(a, b), compare(b, a).reverse());
            prop_assert_eq!(compare(a, b) == Ordering::Equal, a == b);
            if compare(a, b).is_le() && compare(b, c).is_le() {
                prop_assert!(compare(a, c).is_le());
            }
        }

        #[test]
        fn prefixed_numbers_sort_like_numbers(a: u64, b: u64) {
            prop_assert_eq!(compare(&format!("n{a}"), &format!("n{b}")), a.cmp(&b));
            prop_assert_eq!(compare(&format!("{a:#x}"), &format!("{b:#x}")), a.cmp(&b));
        }
    }
}
