//! Keeping other hosts off the drive by a persistent reservation.
//!
//! Our keys are the caller's: it keeps them on disk before they come here. What is held by one of them and is not of this
//! process is left over from a process of ours that died, and is pre-empted. What is held by any other key is another host's:
//! nothing is done to it, ever.

use taf_scsi::cdb::{self, ReserveIn, ReserveOut};
use taf_scsi::page::reservation::{Keys, PARAMETERS_LENGTH, Parameters, Reservation, Type};
use taf_scsi::transport::Data;

use super::ScsiDrive;
use crate::error::Error;

/// Nobody else reads or writes.
const KIND: Type = Type::ExclusiveAccess;
/// Bytes for the list of keys: a thousand hosts.
const LIST: u16 = 8 + 8 * 1024;

/// Keys of this host for one drive, none of them 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnKeys {
    /// The one to reserve with: made for this very path, for a drive takes each path for another host.
    pub current: u64,
    /// Those of earlier processes.
    pub stale: Vec<u64>,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserved {
    /// The drive is ours.
    Ours,
    /// The drive knows no persistent reservations.
    Unsupported,
    /// No keys were named.
    NotAsked,
}

impl ScsiDrive {
    /// Registers the current key and reserves the drive with it.
    pub(super) fn hold(&mut self, own: &OwnKeys) -> Result<Reserved, Error> {
        let keys = match self.registered() {
            Ok(keys) => keys,
            Err(Error::IllegalRequest(_)) => return Ok(Reserved::Unsupported),
            Err(error) => return Err(error),
        };
        if let Some(holder) = self.holder()? {
            if holder.key == own.current && holder.kind == KIND {
                return Ok(Reserved::Ours);
            }
            let is_foreign = |key: &u64| *key != own.current && !own.stale.contains(key);
            let foreign = if holder.kind.all_hold() {
                keys.iter().copied().find(is_foreign)
            } else {
                Some(holder.key).filter(is_foreign)
            };
            if let Some(key) = foreign {
                return Err(Error::ReservedBy { key });
            }
        }
        // Whatever this path was registered with, a key of ours or none, it is the current one now.
        self.change(
            ReserveOut::RegisterAndIgnore,
            Parameters {
                service_key: own.current,
                ..Parameters::default()
            },
        )?;
        // Also those that hold nothing: a dead path of ours.
        for key in own.stale.iter().filter(|key| keys.contains(key)) {
            self.pre_empt(own.current, *key)?;
        }
        match self.holder()? {
            // Pre-empting has made it ours already.
            Some(holder) if holder.key == own.current => {}
            _ => {
                let key = Parameters {
                    key: own.current,
                    ..Parameters::default()
                };
                match self.change(ReserveOut::Reserve, key) {
                    Err(Error::ReservationConflict) => return Err(self.lost_to()),
                    outcome => outcome?,
                }
            }
        }
        match self.holder()? {
            Some(holder) if holder.key == own.current => Ok(Reserved::Ours),
            Some(holder) => Err(Error::ReservedBy { key: holder.key }),
            None => Err(Error::NotTaken("the reservation")),
        }
    }

    /// Gives the drive to whoever wants it.
    pub(super) fn let_go(&mut self, own: &OwnKeys) -> Result<(), Error> {
        let parameters = Parameters {
            key: own.current,
            ..Parameters::default()
        };
        // Removing the registration releases what it holds.
        match self.change(ReserveOut::Register, parameters) {
            // There is none, or the drive knows of no such thing.
            Err(Error::ReservationConflict | Error::IllegalRequest(_)) => Ok(()),
            outcome => outcome,
        }
    }

    /// Who was quicker.
    fn lost_to(&mut self) -> Error {
        match self.holder() {
            Ok(Some(holder)) => Error::ReservedBy { key: holder.key },
            _ => Error::ReservationConflict,
        }
    }

    fn pre_empt(&mut self, key: u64, service_key: u64) -> Result<(), Error> {
        let parameters = Parameters {
            key,
            service_key,
            ..Parameters::default()
        };
        self.change(ReserveOut::Preempt, parameters)
    }

    fn registered(&mut self) -> Result<Vec<u64>, Error> {
        let cdb = cdb::persistent_reserve_in(ReserveIn::Keys, LIST);
        let bytes = self.device.fetch(&cdb, usize::from(LIST))?;
        Ok(Keys::parse(&bytes)?.keys)
    }

    fn holder(&mut self) -> Result<Option<taf_scsi::page::reservation::Holder>, Error> {
        const LENGTH: u16 = 64;
        let cdb = cdb::persistent_reserve_in(ReserveIn::Reservation, LENGTH);
        let bytes = self.device.fetch(&cdb, usize::from(LENGTH))?;
        Ok(Reservation::parse(&bytes)?.holder)
    }

    fn change(&mut self, action: ReserveOut, parameters: Parameters) -> Result<(), Error> {
        let list = parameters.build();
        debug_assert_eq!(list.len(), PARAMETERS_LENGTH);
        let cdb = cdb::persistent_reserve_out(action, KIND);
        self.device.run(&cdb, Data::Out(&list)).map(|_| ())
    }
}
