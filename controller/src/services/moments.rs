//! Moments that people write, read against the controller's clock.

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use taf_core::instant::{self, Day, Instant};
use tonic::Status;

use super::status;

/// The present in the time zone of this name; in UTC if there is none.
pub(super) fn now(time_zone: &str) -> Result<Zoned, Status> {
    let zone = match time_zone {
        "" => TimeZone::UTC,
        name => TimeZone::get(name).map_err(|_| {
            let why = "must be the IANA name of a time zone that the controller's host knows, as in Europe/Berlin";
            status::invalid("time_zone", why)
        })?,
    };
    Ok(Timestamp::now().to_zoned(zone))
}

/// A moment, none if nothing or `latest` is written.
pub(super) fn read(
    field: &str,
    text: &str,
    now: &Zoned,
    day: Day,
) -> Result<Option<Timestamp>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    match instant::parse(text, now, day) {
        Ok(Instant::Latest) => Ok(None),
        Ok(Instant::At(at)) => Ok(Some(at)),
        Err(error) => Err(status::invalid(field, error)),
    }
}
