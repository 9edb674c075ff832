//! What this drive, on this path, can do with this cartridge: asked before anything is written to it.
//!
//! The drive's own word counts. What it does not say is not held against the cartridge: an unknown density is one that makers
//! brought out after us.

use taf_drive::{Drive, MediumState};
use taf_proto::v1::Fault;

use crate::fault::{fault, of_drive};

/// Refuses a cartridge that this drive does not write: its tab forbids it, or the drive only reads its density.
pub fn writable(drive: &mut dyn Drive, state: &MediumState, barcode: &str) -> Result<(), Fault> {
    if state.write_protected {
        return Err(write_protected(barcode));
    }
    let densities = drive
        .densities()
        .map_err(|e| of_drive(&e, "asking what the drive does with", barcode))?;
    let own = densities
        .iter()
        .flatten()
        .find(|density| state.density != 0 && density.code == state.density);
    match own {
        Some(density) if !density.writable => Err(fault(
            "INCOMPATIBLE_MEDIUM",
            format!(
                "this drive reads the format of cartridge {barcode} ({}, density {:02X}h) and does not write it",
                density.description, density.code
            ),
            "use a cartridge of a generation that the drive writes, or a drive that writes this one",
        )),
        Some(_) => Ok(()),
        None => {
            tracing::debug!(
                barcode,
                density = state.density,
                "the drive does not say whether it writes this density"
            );
            Ok(())
        }
    }
}

/// The cartridge's tab forbids writing. That is a person's doing, and nothing is wrong with the volume.
fn write_protected(barcode: &str) -> Fault {
    fault(
        "WRITE_PROTECTED",
        format!("cartridge {barcode} is write-protected; nothing was written"),
        "slide the tab at the left of the cartridge's back, beside the label, away from the padlock, and run again; or use another cartridge",
    )
}

/// A cartridge of several partitions, as LTFS makes them: `None` if it has one, or the drive does not say. The first of them is
/// small, and nobody knows what is in the others.
pub fn partitioned(state: &MediumState, barcode: &str) -> Option<Fault> {
    let count = state.partitions.filter(|count| *count > 1)?;
    Some(fault(
        "PARTITIONED_MEDIUM",
        format!(
            "cartridge {barcode} has {count} partitions, as LTFS makes them, and TAF writes to cartridges of one; nothing was written"
        ),
        format!(
            "if nobody needs what is on it, make one blank partition of it: taf volume format {barcode} --force"
        ),
    ))
}

/// The cartridge's memory can't be read. What is on the tape can be had, and is not to become more.
pub fn bad_memory(barcode: &str, why: &str) -> Fault {
    fault(
        "CARTRIDGE_MEMORY_BAD",
        format!("cartridge {barcode} is not to be written any more: {why}"),
        "what is on it can be restored; move it to another volume, and take the cartridge out of use",
    )
}

/// Refuses a volume whose blocks drive and path don't carry: before anything is written to it, and before reading it comes
/// to its first block.
pub fn carries(drive: &mut dyn Drive, block_size: u32, barcode: &str) -> Result<(), Fault> {
    let limits = drive
        .block_limits()
        .map_err(|e| of_drive(&e, "asking the limits for", barcode))?;
    if block_size as usize <= limits.max {
        return Ok(());
    }
    Err(fault(
        "BLOCK_TOO_LARGE",
        format!(
            "this drive, or the path to it, carries {} bytes at most, but volume {barcode} has blocks of {block_size}",
            limits.max
        ),
        "use a drive on a path that carries larger blocks, or label new volumes in a pool of smaller blocks",
    ))
}
