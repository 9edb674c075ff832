//! What a tape holds at its beginning, for somebody who is about to write over it: whose it is, as exactly as it can be said.

use std::fmt;

use serde_json::{Value, json};
use taf_drive::Error as DriveError;
use taf_format::label::{Kind, Label};

use super::medium::Medium;
use super::{Error, read_label};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holds {
    /// Nothing was ever written.
    Nothing,
    /// A recording of TAF, of whichever installation.
    Taf(Box<Label>),
    /// A label of TAF that can't be read whole.
    DamagedTaf(String),
    /// Somebody else's.
    Foreign(Kind),
    /// Something that can't be read, which is not blank.
    Unreadable(String),
}

impl Holds {
    /// Looks at the beginning. Only a drive that fails is an error.
    pub fn of(medium: &mut Medium) -> Result<Self, Error> {
        match medium.is_blank() {
            Ok(true) => return Ok(Self::Nothing),
            Ok(false) => {}
            Err(Error::Drive { source, .. }) if is_of_the_tape(&source) => {
                return Ok(Self::Unreadable(source.to_string()));
            }
            Err(error) => return Err(error),
        }
        match read_label(medium) {
            Ok(Ok(label)) => Ok(Self::Taf(Box::new(label))),
            Ok(Err(reason)) => Ok(Self::DamagedTaf(reason)),
            Err(Error::Foreign { kind, .. }) => Ok(Self::Foreign(kind)),
            // It is not blank, as was just said: its first block is of no length that we read.
            Err(Error::Blank(_)) => Ok(Self::Unreadable("no block of it can be read".to_owned())),
            Err(Error::Drive { source, .. }) if is_of_the_tape(&source) => {
                Ok(Self::Unreadable(source.to_string()))
            }
            Err(error) => Err(error),
        }
    }

    /// As JSON.
    pub fn document(&self) -> Value {
        match self {
            Self::Nothing => json!({"kind": "blank"}),
            Self::Taf(label) => json!({
                "kind": "taf", "barcode": label.barcode, "pool": label.pool,
                "installation_uuid": label.installation_uuid.to_string(),
                "recording_uuid": label.recording_uuid.to_string(),
            }),
            Self::DamagedTaf(reason) => json!({"kind": "taf", "damage": reason}),
            Self::Foreign(kind) => json!({"kind": kind.to_string()}),
            Self::Unreadable(reason) => json!({"kind": "unreadable", "damage": reason}),
        }
    }
}

/// Whether an error is about what is on the tape, and not about the drive or the way to it.
fn is_of_the_tape(error: &DriveError) -> bool {
    !matches!(
        error,
        DriveError::Unknown(_)
            | DriveError::NotReady(_)
            | DriveError::UnitAttention(_)
            | DriveError::ReservationConflict
            | DriveError::Busy
            | DriveError::Hardware(_)
    )
}

impl fmt::Display for Holds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Taf(label) => write!(
                f,
                "a TAF recording of volume {} in pool {} of installation {}",
                label.barcode, label.pool, label.installation_uuid
            ),
            Self::DamagedTaf(reason) => {
                write!(f, "a TAF recording whose label is damaged ({reason})")
            }
            Self::Foreign(kind) => kind.fmt(f),
            Self::Unreadable(reason) => write!(f, "something that can't be read ({reason})"),
        }
    }
}
