//! Numbers, sizes and times as people read them, and text that can't act on a terminal.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use jiff::tz::TimeZone;
use prost_types::Timestamp;
use taf_proto::v1;

/// Bytes with three digits that count: `999 B`, `1.50 KiB`, `64.0 MiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    // What would be shown as 1000 belongs to the next unit.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = match value {
        _ if unit == 0 => 0,
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// A count with thin groups: `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count and its noun: `1 file`, `2 files`.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// How long something took: `0.4 s`, `1m 05s`, `2h 03m`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// A point in time in the local zone, to the second; `-` if there is none.
pub fn time(stamp: Option<&Timestamp>) -> String {
    stamp
        .and_then(|t| jiff::Timestamp::new(t.seconds, t.nanos).ok())
        .map_or_else(
            || "-".to_owned(),
            |t| {
                t.to_zoned(TimeZone::system())
                    .strftime("%Y-%m-%d %H:%M:%S")
                    .to_string()
            },
        )
}

/// Time between two stamps; none if one is missing or they are the wrong way round.
pub fn between(from: Option<&Timestamp>, to: Option<&Timestamp>) -> Option<Duration> {
    let nanos = |t: &Timestamp| i128::from(t.seconds) * 1_000_000_000 + i128::from(t.nanos);
    let passed = nanos(to?) - nanos(from?);
    Some(Duration::from_nanos(u64::try_from(passed).ok()?))
}

/// A file's mode as `ls` writes it, with its kind's letter.
pub fn mode(kind: char, mode: u32) -> String {
    let mut text = String::with_capacity(10);
    text.push(kind);
    for (shift, special, set, clear) in [
        (6, 0o4000, 's', 'S'),
        (3, 0o2000, 's', 'S'),
        (0, 0o1000, 't', 'T'),
    ] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => set,
            (true, false) => clear,
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// A file name of the API, safe to print whatever the sender put into `display`.
pub fn path(path: Option<&v1::Path>) -> String {
    match path {
        None => String::new(),
        Some(path) if path.raw.is_empty() => clean(&path.display).into_owned(),
        Some(path) => taf_proto::path::display(&path.raw),
    }
}

/// Text of somebody else's without anything that acts on a terminal; else as it is.
pub fn clean(text: &str) -> Cow<'_, str> {
    let acts = |c: char| {
        c.is_control()
            || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if acts(c) {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                write!(safe, "\\x{byte:02x}").expect("writing to a string does not fail");
            }
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_counts_read_well() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "0.98 KiB"),
            (1536, "1.50 KiB"),
            (64 << 20, "64.0 MiB"),
            (999 << 20, "999 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(counted(1, "file", "files"), "1 file");
    }

    #[test]
    fn modes_are_as_in_ls() {
        assert_eq!(mode('-', 0o644), "-rw-r--r--");
        assert_eq!(mode('d', 0o3777), "drwxrwsrwt");
        assert_eq!(mode('-', 0o6744), "-rwsr-Sr--");
        assert_eq!(mode('p', 0), "p---------");
    }

    #[test]
    fn times_read_well() {
        assert_eq!(duration(Duration::from_millis(420)), "0.4 s");
        assert_eq!(duration(Duration::from_secs(65)), "1m 05s");
        assert_eq!(duration(Duration::from_hours(25)), "1d 01h");
        let stamp = |seconds| Timestamp { seconds, nanos: 0 };
        assert_eq!(between(Some(&stamp(5)), Some(&stamp(4))), None);
        assert_eq!(time(None), "-");
    }

    #[test]
    fn nothing_acts_on_the_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb\nc"), "a\\x1b[2Jb\\x0ac");
        assert_eq!(clean("plain \\ text"), "plain \\ text");
    }
}
