//! Whether a volume can be used again, and why, for people.

use std::time::Duration;

use jiff::Timestamp;
use taf_core::generation;
use taf_proto::v1;

use super::timestamp;
use crate::store;
use crate::store::reuse::{Held, Home, Needed, Unproved, Untold};
use crate::store::volumes::VolumeRow;

/// Says of a volume when it can be used again and why. `needed` is what is known beyond the number of versions, `held` is why it may be
/// needed all the same.
pub(super) fn tell(
    volume: &mut v1::Volume,
    row: &VolumeRow,
    needed: Option<&Needed>,
    held: Option<&Held>,
    after: Duration,
) {
    volume.free_time = row.freed_at.map(timestamp);
    let held = held.and_then(|held| kept(&row.barcode, held));
    let reuse = row
        .freed_at
        .and_then(|freed| freed.checked_add(after).ok())
        .filter(|_| again(row).is_none() && held.is_none());
    volume.reuse_time = reuse.map(timestamp);
    let held = held.map(|kept| format!("{}: {}", kept.what, kept.next));
    volume.reuse_reason = reason(row, reuse, needed, held.as_deref(), store::now());
}

/// Why a volume on which nothing is needed is not given up.
pub(crate) struct Kept {
    /// Stable reason.
    pub reason: &'static str,
    /// For people.
    pub what: String,
    /// What to do.
    pub next: String,
}

/// Why a volume is not given up; none if all that was on it is proved elsewhere.
pub(crate) fn kept(barcode: &str, held: &Held) -> Option<Kept> {
    let force = format!("or give that up with `taf volume erase {barcode} --force`");
    if let Some((what, next)) = unproved(barcode, &held.copies) {
        return Some(Kept {
            reason: "COPIES_UNPROVED",
            what,
            next: format!("{next}; {force}"),
        });
    }
    let Untold { versions, home } = held.untold.as_ref()?;
    let what = match versions {
        1 => "the closing record of 1 version is".to_owned(),
        count => format!("the closing records of {count} versions are"),
    };
    let reclaim = |home: &Home| {
        let home = &home.barcode;
        format!("`taf volume reclaim {home}` brings them to another volume")
    };
    let next = match home {
        Some(home) if home.indexed => format!(
            "an index on {0} gets them when that was in an idle drive for `index_after` of the configuration (`taf volume verify {0}` \
             brings it there), or {1}",
            home.barcode,
            reclaim(home)
        ),
        Some(home) => reclaim(home),
        None => {
            "no volume that stays has parts of them: they stay here until these versions expire"
                .to_owned()
        }
    };
    Some(Kept {
        reason: "CLOSING_RECORDS_LAST",
        what: format!("{what} on no other volume that stays"),
        next: format!("{next}; {force}"),
    })
}

/// Why what a volume still has of parts that were copied from it may be all that is left of them, and what to do; none if all copies
/// are proved.
fn unproved(barcode: &str, copies: &[Unproved]) -> Option<(String, String)> {
    let counted = |count: i64| match count {
        1 => "1 part that was copied from it".to_owned(),
        count => format!("{count} parts that were copied from it"),
    };
    let again = format!("`taf catalog rebuild {barcode}` takes them from it again");
    let lost = |of: &Unproved| match of.barcode {
        Some(_) => of.damaged,
        None => of.damaged + of.unread,
    };
    let lost: i64 = copies.iter().map(lost).sum();
    if lost > 0 {
        return Some((
            format!(
                "of {} the copies are damaged, or gone, or about to be erased",
                counted(lost)
            ),
            again,
        ));
    }
    let suspect = copies.iter().any(|of| of.suspect && of.unread > 0);
    let found = copies.iter().filter(|of| of.suspect == suspect);
    let unread: i64 = found.clone().map(|of| of.unread).sum();
    let barcodes: Vec<&str> = found.filter_map(|of| of.barcode.as_deref()).collect();
    let barcodes = barcodes.join(" ");
    let gone = match barcodes.split(' ').next() {
        Some(one) => format!(
            "if {one} is lost, say so with `taf volume erase {one} --force`, and then {again}"
        ),
        None => again,
    };
    let (what, next) = if suspect {
        (
            "the copies are where something else may be by now",
            format!("`taf volume inspect {barcodes}` says what is there"),
        )
    } else {
        (
            "nobody has read the copies back",
            format!("`taf volume verify {barcodes}` does, if no job is about to (`taf job list`)"),
        )
    };
    (unread > 0).then(|| {
        (
            format!("of {} {what}", counted(unread)),
            format!("{next}; {gone}"),
        )
    })
}

/// What becomes of a volume once nothing on it is needed, for people.
pub(super) fn outlook(row: &VolumeRow, after: Duration) -> String {
    match again(row) {
        Some(why) => format!("nothing on it is needed then, but {why}"),
        None if after.is_zero() => {
            "it is written anew when a backup needs a volume and its copies were read back"
                .to_owned()
        }
        None => format!(
            "it is written anew when a backup needs a volume, {} after nothing on it is needed, and not before its copies were read back",
            span(after)
        ),
    }
}

fn span(after: Duration) -> String {
    match after.as_secs() {
        seconds if seconds >= 2 * 86_400 => format!("{} days", seconds / 86_400),
        seconds if seconds >= 2 * 3_600 => format!("{} hours", seconds / 3_600),
        seconds if seconds >= 120 => format!("{} minutes", seconds / 60),
        seconds => format!("{seconds} seconds"),
    }
}

/// Why a volume is never written anew by itself, whatever is on it.
fn again(row: &VolumeRow) -> Option<&'static str> {
    let once = generation::of_barcode(&row.barcode).is_some_and(|(_, once)| once);
    match row.state.as_str() {
        _ if once => Some("it can be written only once"),
        "read-only" => Some("it is read only: only `taf volume erase` frees it"),
        "quarantined" => Some("it is quarantined: only `taf volume erase --force` frees it"),
        _ => None,
    }
}

fn reason(
    row: &VolumeRow,
    reuse: Option<Timestamp>,
    needed: Option<&Needed>,
    held: Option<&str>,
    now: Timestamp,
) -> String {
    let minute = |at: Timestamp| at.strftime("%Y-%m-%d %H:%M UTC").to_string();
    if let Some(freed) = row.freed_at {
        return match (again(row).or(held), reuse) {
            (Some(why), _) => format!("nothing on it is needed since {}, but {why}", minute(freed)),
            (None, Some(reuse)) if reuse <= now => format!("reusable since {}", minute(reuse)),
            (None, Some(reuse)) => format!("reusable from {}", minute(reuse)),
            (None, None) => "nothing on it is needed".to_owned(),
        };
    }
    let counted = |count: i64| match count {
        1 => "1 version".to_owned(),
        count => format!("{count} versions"),
    };
    let versions = needed.map_or(row.version_count, |needed| needed.versions);
    if versions == 0 {
        return String::new();
    }
    let by = counted(versions);
    match needed {
        Some(needed) if needed.expired > 0 => format!(
            "needed by {by}; expired, and still built on or read: {}",
            needed.expired
        ),
        Some(Needed {
            until: Some(until), ..
        }) => format!("needed by {by} until {}", minute(*until)),
        _ => format!("needed by {by}"),
    }
}
