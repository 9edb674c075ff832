//! Hours, days and months as people in a time zone have them.

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};

/// A unit of time that has a newest version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    /// By the clock; one that comes twice when it is set back counts twice.
    Hour,
    /// Of the calendar.
    Day,
    /// From Monday on, numbered as ISO 8601 does.
    Week,
    /// Of the calendar.
    Month,
    /// Of the calendar.
    Year,
}

impl Unit {
    /// All, the shortest first.
    pub const ALL: [Unit; 5] = [Unit::Hour, Unit::Day, Unit::Week, Unit::Month, Unit::Year];

    /// `hourly` and so on.
    pub fn adjective(self) -> &'static str {
        match self {
            Unit::Hour => "hourly",
            Unit::Day => "daily",
            Unit::Week => "weekly",
            Unit::Month => "monthly",
            Unit::Year => "yearly",
        }
    }

    /// Which one a moment is in; the same text for the same one, and no other.
    pub(super) fn label(self, at: Timestamp, zone: &TimeZone) -> String {
        let at = at.to_zoned(zone.clone());
        match self {
            Unit::Hour => at.strftime("%Y-%m-%d %H:00%:z").to_string(),
            Unit::Day => at.strftime("%Y-%m-%d").to_string(),
            Unit::Week => at.strftime("%G-W%V").to_string(),
            Unit::Month => at.strftime("%Y-%m").to_string(),
            Unit::Year => at.strftime("%Y").to_string(),
        }
    }
}

/// The same time of day so many days later; what the calendar can't hold is its end.
pub(super) fn days_after(at: Timestamp, days: u32, zone: &TimeZone) -> Timestamp {
    let days = Span::new().try_days(days).ok();
    let later = days.and_then(|days| at.to_zoned(zone.clone()).checked_add(days).ok());
    later.map_or(Timestamp::MAX, |later| later.timestamp())
}

/// The beginning of the month that comes so many months later.
pub(super) fn month_after(at: Timestamp, months: u32, zone: &TimeZone) -> Timestamp {
    let later = |at: Zoned| -> Option<Zoned> {
        let months = Span::new().try_months(months).ok()?;
        at.date()
            .first_of_month()
            .checked_add(months)
            .ok()?
            .to_zoned(zone.clone())
            .ok()
    };
    later(at.to_zoned(zone.clone())).map_or(Timestamp::MAX, |later| later.timestamp())
}

/// A length of time in its largest whole unit, for people.
pub(super) fn span(seconds: u64) -> String {
    for (unit, length) in [("d", 86_400), ("h", 3_600), ("m", 60)] {
        if seconds.is_multiple_of(length) {
            return format!("{}{unit}", seconds / length);
        }
    }
    format!("{seconds}s")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn units_are_those_of_the_zone() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        // Still the year before in UTC.
        let turn = at("2026-12-31T23:30:00Z");
        assert_eq!(Unit::Year.label(turn, &berlin), "2027");
        assert_eq!(Unit::Year.label(turn, &TimeZone::UTC), "2026");
        assert_eq!(Unit::Week.label(turn, &berlin), "2026-W53");
        // The hour that comes twice when summer time ends.
        let (first, second) = (at("2026-10-25T00:30:00Z"), at("2026-10-25T01:30:00Z"));
        let hour = |at| Unit::Hour.label(at, &berlin);
        assert_eq!(hour(first), "2026-10-25 02:00+02:00");
        assert_eq!(hour(second), "2026-10-25 02:00+01:00");
        assert_eq!(
            Unit::Day.label(first, &berlin),
            Unit::Day.label(second, &berlin)
        );
    }

    #[test]
    fn days_and_months_are_counted_by_the_calendar() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        // 23 hours, because summer time begins.
        assert_eq!(
            days_after(at("2026-03-28T12:00:00Z"), 1, &berlin),
            at("2026-03-29T11:00:00Z")
        );
        let month = |from, months| month_after(at(from), months, &berlin);
        assert_eq!(month("2026-01-31T12:00:00Z", 1), at("2026-01-31T23:00:00Z"));
        assert_eq!(month("2026-01-01T12:00:00Z", 6), at("2026-06-30T22:00:00Z"));
        // Already February there.
        assert_eq!(month("2026-01-31T23:30:00Z", 1), at("2026-02-28T23:00:00Z"));
        assert_eq!(month("2026-01-01T12:00:00Z", u32::MAX), Timestamp::MAX);
        assert_eq!(
            days_after(Timestamp::UNIX_EPOCH, u32::MAX, &berlin),
            Timestamp::MAX
        );
    }

    #[test]
    fn lengths_are_said_shortly() {
        let said = [(86_400, "1d"), (90_000, "25h"), (60, "1m"), (61, "61s")];
        for (seconds, text) in said {
            assert_eq!(span(seconds), text);
        }
    }
}
