//! What a waiting job needs, by its kind.

use taf_core::carry::To;
use taf_core::plan::{Needs, Wanted};
use taf_core::trust;

use super::facts::State;
use crate::store::jobs::QueuedJob;

/// What the job needs. Its row has what its kind demands; that is the schema's concern.
pub(super) fn of(job: &QueuedJob, state: &State) -> Needs {
    Needs {
        // What a person forces on a catalog that he knows not to be trusted is his decision.
        trust: trust::rests(&job.kind) && !job.task.forced,
        ..of_kind(job, state)
    }
}

fn of_kind(job: &QueuedJob, state: &State) -> Needs {
    let drive = job.drive_id.unwrap_or_default();
    let library = job.library_id.unwrap_or_default();
    let cartridge = job.cartridge.as_deref();
    let carry = |to| match cartridge {
        Some(barcode) => Needs::carry(barcode, to),
        None => Needs::carry_unnamed(library, to),
    };
    match (job.kind.as_str(), &job.pool, job.volume_id) {
        ("backup", ..) if state.comparing.contains(&job.id) => Needs::nothing(),
        ("remove-sources" | "remove-extra", ..) => Needs::nothing(),
        ("drive-load", ..) => match cartridge {
            Some(barcode) => Needs::load(drive, barcode),
            None => Needs::drive(drive),
        },
        ("drive-rewind", ..) => Needs::drive(drive),
        ("drive-unload", ..) => {
            let row = state.drives.get(&drive);
            if row.is_some_and(|d| d.library.is_some() && d.full) {
                Needs::clear(drive)
            } else {
                Needs::drive(drive)
            }
        }
        ("drive-clean", ..) => match cartridge {
            Some(barcode) => Needs::load(drive, barcode),
            None => Needs {
                cartridge: Wanted::Cleaning,
                ..Needs::clean(drive)
            },
        },
        ("inventory", ..) => Needs::robot(library),
        ("move", ..) => carry(To::Element(job.task.to_address.unwrap_or_default() as u32)),
        ("import", ..) => carry(To::Slot),
        ("export", ..) => carry(To::MailSlot),
        ("restore", ..) if !job.volumes.is_empty() => Needs::any_of(job.volumes.clone()),
        (_, Some((pool, name)), None) => Needs::append(*pool, name),
        (_, _, Some(volume)) => Needs::volume(volume),
        (_, None, None) => Needs::cartridge(cartridge.unwrap_or_default()),
    }
}
