//! The records of pax extended headers, `length key=value newline`, and the decimal times in them.

use crate::entry::Time;

/// Appends one record. Value and key may hold any bytes; the key no `=`.
pub(super) fn push(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + decimal_digits(length) {
        length = rest + decimal_digits(length);
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

fn decimal_digits(number: usize) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

/// Takes the first record off: its key, its value and what follows it. `Err` says what is wrong.
#[allow(clippy::type_complexity)]
pub(super) fn pop(records: &[u8]) -> Result<(&[u8], &[u8], &[u8]), &'static str> {
    let space = records
        .iter()
        .take(20)
        .position(|&byte| byte == b' ')
        .ok_or("a record has no length")?;
    let length = number(&records[..space]).ok_or("a record's length is not a number")?;
    let length = usize::try_from(length).map_err(|_| "a record is too long")?;
    if length > records.len() || length < space + 4 {
        return Err("a record's length does not fit its header");
    }
    let (record, rest) = records.split_at(length);
    let Some((b'\n', record)) = record[space + 1..].split_last() else {
        return Err("a record does not end with a newline");
    };
    let equals = record
        .iter()
        .position(|&byte| byte == b'=')
        .ok_or("a record has no '='")?;
    Ok((&record[..equals], &record[equals + 1..], rest))
}

/// A decimal number without sign.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 20 {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, &digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// A time as an exact decimal number of seconds.
pub(super) fn time(time: Time) -> String {
    let mut nanos = u64::from(time.nanos);
    let mut seconds = i128::from(time.seconds);
    let mut sign = "";
    if seconds < 0 {
        // The type counts nanoseconds forward, the decimal number away from zero.
        sign = "-";
        if nanos > 0 {
            nanos = 1_000_000_000 - nanos;
            seconds += 1;
        }
        seconds = -seconds;
    }
    if nanos == 0 {
        return format!("{sign}{seconds}");
    }
    let decimal = format!("{sign}{seconds}.{nanos:09}");
    decimal.trim_end_matches('0').to_owned()
}

/// Reads a decimal number of seconds; digits below the nanosecond are dropped. `None` if it is not one.
pub(super) fn parse_time(text: &[u8]) -> Option<Time> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut halves = text.splitn(2, |&byte| byte == b'.');
    let seconds = i128::from(number(halves.next()?)?);
    let mut nanos = 0_u32;
    let mut unit = 100_000_000;
    for &digit in halves.next().unwrap_or_default() {
        if !digit.is_ascii_digit() {
            return None;
        }
        nanos += u32::from(digit - b'0') * unit;
        unit /= 10;
    }
    let (seconds, nanos) = match (negative, nanos) {
        (false, nanos) => (seconds, nanos),
        (true, 0) => (-seconds, 0),
        (true, nanos) => (-seconds - 1, 1_000_000_000 - nanos),
    };
    Some(Time {
        seconds: i64::try_from(seconds).ok()?,
        nanos,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_records_length_counts_its_own_digits() {
        for size in [0, 1, 4, 5, 6, 90, 92, 93, 94, 95, 985, 992, 993, 994, 9_990] {
            let value = vec![b'v'; size];
            let mut records = Vec::new();
            push(&mut records, b"k", &value);
            let length: usize = std::str::from_utf8(&records[..])
                .unwrap()
                .split(' ')
                .next()
                .unwrap()
                .parse()
                .unwrap();
            assert_eq!(length, records.len());
            assert_eq!(pop(&records).unwrap(), (&b"k"[..], &value[..], &b""[..]));
        }
        for wrong in [
            &b""[..],
            b"5",
            b"5 a=",
            b"9 a=b\n",
            b"5 ab\n",
            b"6 a=bc",
            b"x a=b\n",
            b"0 a=b\n",
        ] {
            assert!(pop(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn times_are_exact_decimals() {
        for (seconds, nanos, text) in [
            (0, 0, "0"),
            (1, 500_000_000, "1.5"),
            (-2, 500_000_000, "-1.5"),
            (-1, 999_999_999, "-0.000000001"),
            (-1, 0, "-1"),
            (8_589_934_592, 1, "8589934592.000000001"),
            (i64::MIN, 1, "-9223372036854775807.999999999"),
            (i64::MIN, 0, "-9223372036854775808"),
            (i64::MAX, 999_999_999, "9223372036854775807.999999999"),
        ] {
            let value = Time { seconds, nanos };
            assert_eq!(time(value), text);
            assert_eq!(parse_time(text.as_bytes()), Some(value));
        }
        assert_eq!(
            parse_time(b"1.1234567891"),
            Some(Time {
                seconds: 1,
                nanos: 123_456_789
            })
        );
        for wrong in ["", "-", "1.x", "x", "1e3", "99999999999999999999"] {
            assert_eq!(parse_time(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
