//! Moments as people write them: `latest`, `2026-11-20 14:00`, `3 days ago`. Pure: the present and the time zone are given.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};

/// A moment to look back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instant {
    /// The newest there is.
    Latest,
    /// Whatever was the newest then.
    At(Timestamp),
}

/// What a day without a time means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Day {
    /// Its first moment.
    Begins,
    /// Its last one.
    Ends,
}

/// Why a text is no moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It can't be read.
    #[error(
        "\"{0}\" is not a moment: write latest, yesterday, 3 days ago, 2026-11-20, 2026-11-20 14:00, or RFC 3339"
    )]
    Unknown(String),
    /// It is beyond the calendar.
    #[error("\"{0}\" is beyond the calendar: write a moment that is nearer")]
    Beyond(String),
}

/// Longest text that can be one.
const LONGEST: usize = 64;
/// Units of what lies back, as they may be written.
const UNITS: [(&[&str], Unit); 7] = [
    (&["s", "sec", "secs", "second", "seconds"], Unit::Second),
    (&["min", "mins", "minute", "minutes"], Unit::Minute),
    (&["h", "hour", "hours"], Unit::Hour),
    (&["d", "day", "days"], Unit::Day),
    (&["w", "week", "weeks"], Unit::Week),
    (&["month", "months"], Unit::Month),
    (&["y", "year", "years"], Unit::Year),
];

#[derive(Clone, Copy)]
enum Unit {
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Year,
}

/// Reads a moment, seen from `now`, in whose time zone it is meant unless it says another one.
///
/// Whoever looks back to a day wants to see what was done on it: for them it means its end. A day back is the same time of the day
/// before, also when the clocks were changed in between. A time that the clocks skipped or showed twice is taken as if they had
/// not been changed yet.
///
/// # Errors
/// It is no moment.
pub fn parse(text: &str, now: &Zoned, day: Day) -> Result<Instant, Error> {
    let text = text.trim();
    let shown = || text.chars().take(LONGEST).collect();
    let unknown = || Error::Unknown(shown());
    if text.len() > LONGEST {
        return Err(unknown());
    }
    let words = text.to_ascii_lowercase();
    let at = match words.as_str() {
        "latest" => return Ok(Instant::Latest),
        "now" => now.timestamp(),
        "today" => day.of(now.date(), now.time_zone()).ok_or_else(unknown)?,
        "yesterday" => {
            let yesterday = now.date().yesterday().map_err(|_| unknown())?;
            day.of(yesterday, now.time_zone()).ok_or_else(unknown)?
        }
        words => match words.strip_suffix(" ago") {
            Some(spans) => back(spans, now)
                .ok_or_else(unknown)?
                .map_err(|Beyond| Error::Beyond(shown()))?,
            None => absolute(text, now.time_zone(), day).ok_or_else(unknown)?,
        },
    };
    Ok(Instant::At(at))
}

/// It lies beyond the calendar.
struct Beyond;

/// `3 days`, `1 week 2 days`, `90min`, `an hour`. Nothing if it is none of that.
fn back(text: &str, now: &Zoned) -> Option<Result<Timestamp, Beyond>> {
    let mut rest = text.trim();
    let mut at = now.clone();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (count, behind) = if digits == 0 {
            let behind = rest.strip_prefix("an ").or_else(|| rest.strip_prefix("a "));
            (1, behind?)
        } else {
            (rest[..digits].parse::<i64>().ok()?, &rest[digits..])
        };
        let behind = behind.trim_start();
        let end = behind.find(|c: char| !c.is_ascii_alphabetic());
        let (word, more) = behind.split_at(end.unwrap_or(behind.len()));
        let (_, unit) = UNITS.iter().find(|(words, _)| words.contains(&word))?;
        let earlier = span(count, *unit).and_then(|span| at.checked_sub(span).ok());
        let Some(earlier) = earlier else {
            return Some(Err(Beyond));
        };
        at = earlier;
        rest = more.trim_start();
    }
    Some(Ok(at.timestamp()))
}

fn span(count: i64, unit: Unit) -> Option<Span> {
    let span = Span::new();
    let span = match unit {
        Unit::Second => span.try_seconds(count),
        Unit::Minute => span.try_minutes(count),
        Unit::Hour => span.try_hours(count),
        Unit::Day => span.try_days(count),
        Unit::Week => span.try_weeks(count),
        Unit::Month => span.try_months(count),
        Unit::Year => span.try_years(count),
    };
    span.ok()
}

fn absolute(text: &str, zone: &TimeZone, day: Day) -> Option<Timestamp> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    if text.len() == "2026-11-20".len() {
        return day.of(text.parse::<Date>().ok()?, zone);
    }
    let (date, time) = text.split_once(['T', ' '])?;
    let at = DateTime::from_parts(date.parse().ok()?, time.trim().parse::<Time>().ok()?);
    Some(at.to_zoned(zone.clone()).ok()?.timestamp())
}

impl Day {
    fn of(self, date: Date, zone: &TimeZone) -> Option<Timestamp> {
        let begin = |date: Date| Some(date.to_zoned(zone.clone()).ok()?.timestamp());
        match self {
            Self::Begins => begin(date),
            Self::Ends => {
                let next = begin(date.tomorrow().ok()?)?;
                next.checked_sub(Span::new().nanoseconds(1)).ok()
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, missing_docs)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn now() -> Zoned {
        "2026-11-26T15:30:00[Europe/Berlin]".parse().unwrap()
    }

    fn at(text: &str) -> String {
        match parse(text, &now(), Day::Ends).unwrap() {
            Instant::Latest => "latest".into(),
            Instant::At(at) => at.strftime("%Y-%m-%dT%H:%M:%S").to_string(),
        }
    }

    #[test]
    fn moments_are_meant_in_the_zone_of_who_asks() {
        for (text, meant) in [
            ("latest", "latest"),
            ("now", "2026-11-26T14:30:00"),
            ("Today", "2026-11-26T22:59:59"),
            ("yesterday", "2026-11-25T22:59:59"),
            ("3 days ago", "2026-11-23T14:30:00"),
            ("a week ago", "2026-11-19T14:30:00"),
            ("an hour ago", "2026-11-26T13:30:00"),
            ("1 week 2 days ago", "2026-11-17T14:30:00"),
            ("90min ago", "2026-11-26T13:00:00"),
            ("2 months ago", "2026-09-26T13:30:00"),
            ("2026-11-20", "2026-11-20T22:59:59"),
            ("2026-11-20 14:00", "2026-11-20T13:00:00"),
            ("2026-07-20T14:00:05", "2026-07-20T12:00:05"),
            ("2026-11-20T14:00:00Z", "2026-11-20T14:00:00"),
            ("2026-11-20T14:00:00-05:00", "2026-11-20T19:00:00"),
        ] {
            assert_eq!(at(text), meant, "{text}");
        }
    }

    #[test]
    fn a_day_begins_and_ends_in_its_zone() {
        let begin = parse("2026-11-20", &now(), Day::Begins).unwrap();
        assert_eq!(begin, Instant::At("2026-11-19T23:00:00Z".parse().unwrap()));
        assert_eq!(at("2026-11-20"), "2026-11-20T22:59:59");
    }

    #[test]
    fn clocks_that_are_changed_do_not_shift_days() {
        let now: Zoned = "2026-10-26T12:00:00[Europe/Berlin]".parse().unwrap();
        let Instant::At(day) = parse("2 days ago", &now, Day::Ends).unwrap() else {
            panic!("a day is no version");
        };
        assert_eq!(day.to_string(), "2026-10-24T10:00:00Z");
        // Skipped in spring.
        assert!(parse("2026-03-29 02:30", &now, Day::Ends).is_ok());
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "ago",
            " ago",
            "3 ago",
            "days ago",
            "x days ago",
            "3 fortnights ago",
            "2026-13-01",
            "2026-11-20 25:00",
            "tomorrow",
            "-3 days ago",
            "14:00",
        ] {
            let said = parse(text, &now(), Day::Ends);
            assert!(matches!(said, Err(Error::Unknown(_))), "{text}: {said:?}");
        }
        assert!(matches!(
            parse("999999 years ago", &now(), Day::Ends),
            Err(Error::Beyond(_))
        ));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC*") {
            let _ = parse(&text, &now(), Day::Begins);
        }

        #[test]
        fn what_is_further_back_is_earlier(days in 0_i64..5_000) {
            let back = |days: i64| match parse(&format!("{days} days ago"), &now(), Day::Ends) {
                Ok(Instant::At(at)) => at,
                other => panic!("{other:?}"),
            };
            prop_assert!(back(days + 1) < back(days));
        }
    }
}
