//! Why work failed, in the words that the controller shows to people.

use taf_drive::Error as DriveError;
use taf_drive::watch::Command;
use taf_proto::v1::Fault;

/// A fault from its three parts.
pub fn fault(reason: &str, message: impl Into<String>, next_step: impl Into<String>) -> Fault {
    Fault {
        reason: reason.to_owned(),
        message: message.into(),
        next_step: next_step.into(),
    }
}

/// The work was stopped by the controller.
pub fn stopped() -> Fault {
    fault("STOPPED", "the work was stopped", "")
}

const DRIVE_RESET: &str = "DRIVE_RESET";

/// Whether the drive had news: the command that brought them did not run, and what was proved before holds no longer.
pub fn is_news(fault: &Fault) -> bool {
    fault.reason == DRIVE_RESET
}

/// The drive was reset, or its cartridge changed, after the volume was proved.
pub fn drive_reset(what: impl std::fmt::Display) -> Fault {
    fault(
        DRIVE_RESET,
        format!("the drive lost its place on the tape: {what}; nothing was written from there on"),
        "committed parts are safe; run again, and look at the drive if it happens again",
    )
}

/// A command does not come back.
pub fn drive_hung(command: &Command, barcode: &str) -> Fault {
    fault(
        "DRIVE_HUNG",
        format!(
            "the drive has not answered {} for {} s; the work on volume {barcode} was given up",
            command.name(),
            command.begun.elapsed().as_secs()
        ),
        "committed parts are safe; look at the drive's panel, and switch it off and on if it does not recover: it is used again when the command has come back",
    )
}

/// The source agent hung up.
pub fn peer_lost(what: impl std::fmt::Display) -> Fault {
    fault(
        "PEER_LOST",
        format!("the source agent's connection ended: {what}"),
        "committed parts are safe; run again",
    )
}

/// A message of the source agent that no sane one sends.
pub fn protocol(what: impl std::fmt::Display) -> Fault {
    fault(
        "BAD_STREAM",
        format!("the source agent sent what can't be written: {what}"),
        "see that source agent and tape agent have the same version",
    )
}

/// What a drive's error means while `doing` something with `barcode`.
pub fn of_drive(error: &DriveError, doing: &str, barcode: &str) -> Fault {
    let message = format!("{doing} {barcode}: {error}");
    match error {
        DriveError::WriteProtected(_) => fault(
            "WRITE_PROTECTED",
            message,
            "move the cartridge's write-protect tab, or choose another volume",
        ),
        DriveError::Encrypted(_) => fault(
            "ENCRYPTED",
            message,
            "it was written with a key that this drive does not have; what is not encrypted so can still be read",
        ),
        DriveError::NotReady(_) => fault(
            "DRIVE_NOT_READY",
            message,
            "look at the drive's panel; run again when it is ready",
        ),
        DriveError::Busy => fault(
            "DRIVE_NOT_READY",
            message,
            "see what else uses the drive; run again when it is free",
        ),
        // A bad drive must not condemn one cartridge after another.
        DriveError::Hardware(_)
        | DriveError::IllegalRequest(_)
        | DriveError::TransferSize { .. }
        | DriveError::NotTaken(_)
        | DriveError::WrongDevice { .. }
        | DriveError::Answer(_)
        | DriveError::Program { .. }
        | DriveError::Other(_)
        | DriveError::Status(_) => fault(
            "DRIVE_FAILED",
            message,
            "what is committed stays; look at the drive's panel, clean it, or use another drive",
        ),
        DriveError::Unsupported(_) => fault(
            "DRIVE_FAILED",
            message,
            "name the drive otherwise in the tape agent's configuration (taf drive scan shows how), or use another one",
        ),
        DriveError::Unknown(_) => fault(
            "DRIVE_UNREACHABLE",
            message,
            "see that the device answers; what was not committed is written again by the next run",
        ),
        DriveError::UnitAttention(_) => drive_reset(message),
        DriveError::ReservationConflict | DriveError::ReservedBy { .. } => fault(
            "DRIVE_RESERVED",
            message,
            "end its use there first; only if that host is gone for good, switch the drive off and on, or take its key away with `sg_persist --out --preempt`",
        ),
        DriveError::PositionUnknown => fault(
            "POSITION_UNKNOWN",
            message,
            "this drive can't tell where the tape stands, so nothing is appended; use another drive",
        ),
        DriveError::VolumeOverflow => fault(
            "VOLUME_FULL",
            message,
            "label another cartridge for the pool and run again",
        ),
        DriveError::CartridgeMemory(_) => crate::medium::bad_memory(barcode, &error.to_string()),
        _ => fault(
            "MEDIUM_ERROR",
            message,
            "what is committed stays; a volume that was being written is read-only now; clean the drive, or run again with another cartridge",
        ),
    }
}
