//! What may be written, and what may be overwritten: tabs, formats, write-once cartridges, append-only mode.

use taf_scsi::sense::{Key, Sense, code};

use super::Drive;
use super::log::alert;
use crate::cartridge::Object;
use crate::generation::Access;
use crate::wire::{Cdb, Check, Outcome, illegal, invalid_field};

/// What ALLOW OVERWRITE allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Overwrite {
    /// Nothing.
    #[default]
    None,
    /// The next write at this position.
    Here,
    /// FORMAT MEDIUM.
    Format,
}

impl Drive {
    pub(super) fn writable(&mut self) -> Result<(), Check> {
        self.ready()?;
        if self.options.generation.access(self.density()) == Access::Read {
            self.alert(alert::READ_ONLY_FORMAT);
            return Err(Sense::new(Key::DataProtect, code::CANNOT_WRITE_MEDIUM).into());
        }
        if self.ready()?.write_protected() {
            self.alert(alert::WRITE_PROTECT);
            return Err(Sense::new(Key::DataProtect, code::WRITE_PROTECTED).into());
        }
        Ok(())
    }

    /// Refuses a write at the position if it would overwrite what must stay.
    pub(super) fn overwrites(&mut self) -> Result<(), Check> {
        let position = self.position;
        let cartridge = self.ready()?;
        let end = cartridge.objects();
        if position >= end {
            return Ok(());
        }
        if self.write_once() {
            // Filemarks at the end may be overwritten, but for the first of them.
            let marks = (position..end).all(|at| cartridge.object(at) == Some(Object::Filemark));
            let first = position == 0 || cartridge.object(position - 1) != Some(Object::Filemark);
            if !marks || first {
                return Err(self.write_once_refusal());
            }
        }
        if self.mode.append_only && self.overwrite != Overwrite::Here {
            return Err(append_only());
        }
        self.overwrite = Overwrite::None;
        Ok(())
    }

    /// ALLOW OVERWRITE (SSC-5 7.2): in append-only mode, for one place or for FORMAT MEDIUM.
    pub(super) fn allow_overwrite(&mut self, cdb: &Cdb) -> Outcome {
        self.ready()?;
        if !self.mode.append_only {
            return Err(illegal(code::NOT_IN_APPEND_ONLY_MODE));
        }
        self.overwrite = match cdb.byte(2) & 0x0f {
            0 => Overwrite::None,
            1 => {
                if (cdb.byte(3), cdb.field::<8>(4)) != (self.partition, self.position) {
                    return Err(illegal(code::SEQUENTIAL_POSITIONING_ERROR));
                }
                Overwrite::Here
            }
            2 => Overwrite::Format,
            _ => return Err(invalid_field()),
        };
        Ok(Vec::new())
    }

    pub(super) fn write_once_refusal(&mut self) -> Check {
        self.alert(alert::WORM_OVERWRITE);
        Sense::new(Key::DataProtect, code::WORM_OVERWRITE).into()
    }
}

/// The refusal of append-only mode.
pub(super) fn append_only() -> Check {
    Sense::new(Key::DataProtect, code::WRITE_APPEND_POSITION).into()
}
