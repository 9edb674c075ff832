//! What goes to `itdt`: it has the drive for itself, and afterwards the tape must be where it was.

use std::io;

use taf_scsi::cdb::opcode;
use taf_scsi::page::attribute::Attribute;

use super::drive::ItdtDrive;
use super::program::{Effort, Program};
use super::{answers, lost};
use crate::error::Error;
use crate::watch::given_up;

impl ItdtDrive {
    /// Has `itdt` do something, with `st` closed meanwhile.
    pub(super) fn by_itdt<T>(
        &mut self,
        opcode: u8,
        act: impl FnOnce(&Program) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if self.tape.is_some() {
            self.settle()?;
            self.left_at = self.tell()?;
            if self.left_at.is_none() && self.tells && self.status()?.is_ok_and(|is| is.online) {
                // The question met news of the drive, which older kernels do not heed: it may stand anywhere.
                return Err(self.news());
            }
            self.tape = None;
        }
        let program = &self.program;
        let outcome = match &self.lane {
            Some(lane) => lane
                .run(opcode, || act(program))
                .unwrap_or_else(|| Err(Error::Unknown(given_up(&self.name)))),
            None => act(program),
        };
        if matches!(outcome, Err(Error::Unknown(_))) {
            self.forget();
        }
        outcome
    }

    /// The same for what moves the tape: where it was left counts no more.
    pub(super) fn moved_by_itdt(
        &mut self,
        effort: Effort,
        opcode: u8,
        orders: &[&str],
    ) -> Result<(), Error> {
        self.by_itdt(opcode, |program| program.run(effort, orders))?;
        self.forget();
        Ok(())
    }

    pub(super) fn forget(&mut self) {
        self.at = None;
        self.full = false;
        self.left_at = None;
        self.at_beginning = false;
    }

    /// Asks `itdt` something that it may not know, or the drive not have.
    pub(super) fn ask(&mut self, orders: &[&str]) -> Result<Option<String>, Error> {
        match self.by_itdt(opcode::LOG_SENSE, |program| {
            program.run(Effort::Ask, orders)
        }) {
            Ok(output) => Ok(Some(output)),
            Err(Error::Program { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Some attributes: all in one call; where that fails, each in one of its own, for one that is missing may end a call.
    pub(super) fn read_attributes(&mut self, ids: &[u16]) -> Result<Vec<Attribute>, Error> {
        let failed = |error: io::Error| lost("itdt", format!("no folder for its files: {error}"));
        let folder = tempfile::tempdir().map_err(failed)?;
        let file = |id: u16| folder.path().join(format!("{id:04x}"));
        let orders = |id: u16| {
            [
                "readattr".to_owned(),
                "-p0".to_owned(),
                format!("-a{id:04X}"),
                format!("-d{}", file(id).display()),
            ]
        };
        self.by_itdt(opcode::READ_ATTRIBUTE, |program| {
            let all: Vec<String> = ids.iter().flat_map(|&id| orders(id)).collect();
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            match program.run(Effort::Ask, &all) {
                Err(Error::Program { .. }) if ids.len() > 1 => {}
                Ok(_) | Err(Error::Program { .. }) => return Ok(()),
                Err(error) => return Err(error),
            }
            for &id in ids.iter().filter(|&&id| !file(id).exists()) {
                let one = orders(id);
                let one: Vec<&str> = one.iter().map(String::as_str).collect();
                match program.run(Effort::Ask, &one) {
                    Ok(_) | Err(Error::Program { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })?;
        let read = |&id: &u16| answers::attribute(&std::fs::read(file(id)).ok()?, id);
        Ok(ids.iter().filter_map(read).collect())
    }
}
