//! Text for people on tape: names that cannot play tricks on a terminal, and times that can be read.

use jiff::Timestamp;

/// `name` with control characters, direction marks and backslashes written as `\u{hex}`.
pub(crate) fn escape(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        let tricky = c.is_control()
            || matches!(c, '\\' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if tricky {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// The name that [`escape`] wrote; `None` if it did not.
pub(crate) fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let (hex, behind) = rest[at..].strip_prefix("\\u{")?.split_once('}')?;
        if hex.len() > 6 {
            return None;
        }
        out.push(char::from_u32(u32::from_str_radix(hex, 16).ok()?)?);
        rest = behind;
    }
    out.push_str(rest);
    Some(out)
}

/// A time as RFC 3339 with the precision that it has; times that no calendar has become the epoch's.
pub(crate) fn time(unix_nanos: i64) -> String {
    Timestamp::from_nanosecond(i128::from(unix_nanos))
        .unwrap_or(Timestamp::UNIX_EPOCH)
        .to_string()
}

/// Nanoseconds since 1970 of an RFC 3339 time.
pub(crate) fn parse_time(text: &str) -> Option<i64> {
    let time: Timestamp = text.parse().ok()?;
    i64::try_from(time.as_nanosecond()).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_come_back_and_times_too() {
        for name in ["", "home", "a\nb\\c\u{202e}d\0\u{1b}[2J", "主机", "\\u{41}"] {
            let text = escape(name);
            assert!(!text.contains(char::is_control), "{text:?}");
            assert_eq!(unescape(&text).as_deref(), Some(name));
        }
        for nanos in [0, -1, 1_700_000_000_123_456_789, i64::MIN, i64::MAX] {
            assert_eq!(parse_time(&time(nanos)), Some(nanos), "{}", time(nanos));
        }
    }
}
