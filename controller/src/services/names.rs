//! Resource names of the API: how they are written and read. Knows nothing of what they name.

/// Longest id, in bytes: the width of the columns that hold them.
pub const ID_LIMIT: usize = 64;

/// What an id may be, for messages.
pub const ID_RULE: &str = "1 to 64 of a-z, 0-9, '.', '_', '-', beginning with a letter or digit";

/// A text is not the name of such a resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must have the form \"{0}\"")]
pub struct Error(pub &'static str);

/// Whether a text may be the id of a new resource: [`ID_RULE`].
pub fn is_id(text: &str) -> bool {
    let plain =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    text.len() <= ID_LIMIT
        && text
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        && text.bytes().all(plain)
}

/// What a barcode or serial number may be, for messages.
pub const SERIAL_RULE: &str = "must be 1 to 64 visible characters without '/'";

/// Whether a text may be a barcode or a serial number: 1 to 64 visible ASCII characters but '/'. Devices, not
/// people, choose them.
pub fn is_serial(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= ID_LIMIT
        && text.bytes().all(|b| b.is_ascii_graphic() && b != b'/')
}

macro_rules! named {
    ($(#[$doc:meta])* $write:ident, $read:ident, $prefix:literal, $form:literal, $rule:ident) => {
        $(#[$doc])*
        pub fn $write(id: &str) -> String {
            format!(concat!($prefix, "{}"), id)
        }

        #[doc = concat!("Reads `", $form, "` and gives the part in braces.")]
        pub fn $read(name: &str) -> Result<&str, Error> {
            name.strip_prefix($prefix).filter(|id| $rule(id)).ok_or(Error($form))
        }
    };
}

named!(
    /// `accounts/{user}`.
    account, account_user, "accounts/", "accounts/{user}", is_id
);
named!(
    /// `agents/{agent}`.
    agent, agent_id, "agents/", "agents/{agent}", is_id
);
named!(
    /// `sources/{source}`.
    source, source_id, "sources/", "sources/{source}", is_id
);
named!(
    /// `plans/{plan}`.
    plan, plan_id, "plans/", "plans/{plan}", is_id
);
named!(
    /// `pools/{pool}`.
    pool, pool_id, "pools/", "pools/{pool}", is_id
);
named!(
    /// `volumes/{barcode}`.
    volume, volume_barcode, "volumes/", "volumes/{barcode}", is_serial
);
named!(
    /// `drives/{serial}`.
    drive, drive_serial, "drives/", "drives/{serial}", is_serial
);
named!(
    /// `libraries/{serial}`.
    library, library_serial, "libraries/", "libraries/{serial}", is_serial
);

/// `jobs/{number}`.
pub fn job(number: i64) -> String {
    format!("jobs/{number}")
}

/// Reads `jobs/{number}`.
pub fn job_number(name: &str) -> Result<i64, Error> {
    const FORM: Error = Error("jobs/{number}");
    name.strip_prefix("jobs/").and_then(number).ok_or(FORM)
}

/// `lines/{line}/versions/{number}`.
pub fn version(line: i64, version: i64) -> String {
    format!("lines/{line}/versions/{version}")
}

/// Reads `lines/{line}/versions/{number}`: line and version.
pub fn version_numbers(name: &str) -> Result<(i64, i64), Error> {
    const FORM: Error = Error("lines/{line}/versions/{number}");
    let (line, version) = name
        .strip_prefix("lines/")
        .and_then(|rest| rest.split_once("/versions/"))
        .ok_or(FORM)?;
    Ok((number(line).ok_or(FORM)?, number(version).ok_or(FORM)?))
}

/// `libraries/{serial}/slots/{address}`.
pub fn slot(library_serial: &str, address: u32) -> String {
    format!("libraries/{library_serial}/slots/{address}")
}

/// A positive number in its only spelling: no sign, no leading zero.
fn number(text: &str) -> Option<i64> {
    let number: i64 = text.parse().ok()?;
    (number > 0 && text.as_bytes()[0].is_ascii_digit() && text.as_bytes()[0] != b'0')
        .then_some(number)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, missing_docs)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        assert_eq!(source_id(&source("home-1")).unwrap(), "home-1");
        assert_eq!(volume_barcode(&volume("TAF001L9")).unwrap(), "TAF001L9");
        assert_eq!(job_number(&job(7)).unwrap(), 7);
        assert_eq!(version_numbers(&version(3, 12)).unwrap(), (3, 12));
    }

    #[test]
    fn other_spellings_are_refused() {
        for wrong in [
            "",
            "sources/",
            "sources/A",
            "sources/a/b",
            "sources/-a",
            "plans/a",
            "sources/ä",
        ] {
            assert!(source_id(wrong).is_err(), "{wrong}");
        }
        assert!(source_id(&source(&"a".repeat(65))).is_err());
        for wrong in [
            "jobs/",
            "jobs/0",
            "jobs/+1",
            "jobs/01",
            "jobs/-1",
            "jobs/99999999999999999999",
        ] {
            assert!(job_number(wrong).is_err(), "{wrong}");
        }
        for wrong in [
            "lines/1",
            "lines/1/versions/",
            "lines/0/versions/1",
            "lines/1/versions/1/x",
        ] {
            assert!(version_numbers(wrong).is_err(), "{wrong}");
        }
    }
}
