//! The recall plan of a restore, for people.

use std::time::Duration;

use taf_proto::v1::{RecallVolume, RestoreVersionResponse};

use super::volume::where_it_is;
use crate::failure::Failure;
use crate::human;
use crate::output::{Output, Rows};
use crate::resource::id;

/// Says what would be done: `verb` is `restore` or `read`.
pub fn show(answer: &RestoreVersionResponse, verb: &str, out: &mut Output) -> Result<(), Failure> {
    out.line(format!(
        "would {verb} {}, {}; {} with {}, about {}",
        human::counted(answer.entry_count, "entry", "entries"),
        human::size(answer.byte_count),
        human::counted(answer.mount_count.into(), "mount", "mounts"),
        human::counted(answer.drive_count.max(1).into(), "drive", "drives"),
        time(answer.estimated_duration.as_ref()),
    ))?;
    let lacking = answer.unknown_directory_count + answer.unmet_entry_count;
    if lacking > 0 {
        let volumes: Vec<&str> = answer.lacking_volumes.iter().map(|it| id(it)).collect();
        out.line(format!(
            "not whole: {} not known or not wholly, {} without bytes, for want of {}; only with --partial, and as issues",
            human::counted(answer.unknown_directory_count, "directory", "directories"),
            human::counted(answer.unmet_entry_count, "entry", "entries"),
            if volumes.is_empty() { "volumes".to_owned() } else { volumes.join(" ") },
        ))?;
    }
    if answer.recall.is_empty() {
        return out.line("nothing is read from tape");
    }
    let mut rows = Rows::new(&["VOLUME", "PLACE", ">PARTS", ">ENTRIES", ">BYTES", ">ABOUT"]);
    for volume in &answer.recall {
        rows.push([
            id(&volume.volume).to_owned(),
            place(volume),
            human::count(volume.part_count.into()),
            human::count(volume.entry_count),
            human::size(volume.byte_count),
            time(volume.estimated_duration.as_ref()),
        ]);
    }
    out.table(&rows)?;
    let missing = answer.recall.iter().filter(|volume| volume.missing);
    let missing: Vec<&str> = missing.map(|volume| id(&volume.volume)).collect();
    if !missing.is_empty() {
        out.line(format!(
            "missing: {}; the restore reads the others first, then waits for them: put them into slots, or a mail slot and taf library import",
            missing.join(" ")
        ))?;
    }
    out.line(format!("assumed: {}", answer.estimate_basis))
}

fn place(volume: &RecallVolume) -> String {
    let seen = volume.last_seen_time.as_ref();
    where_it_is(&volume.location, &volume.last_location, seen)
}

fn time(duration: Option<&prost_types::Duration>) -> String {
    let seconds = duration.map_or(0, |duration| duration.seconds.max(0));
    human::duration(Duration::from_secs(seconds.unsigned_abs()))
}
