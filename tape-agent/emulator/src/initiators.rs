//! The initiators of a logical unit: what each has yet to be told, what it registered, what it prevents.
//!
//! Owns what drives and robots do alike about more than one initiator.

use std::collections::BTreeSet;

use taf_scsi::cdb::opcode;
use taf_scsi::sense::{Key, Sense, code};
use taf_scsi::target::Nexus;

use crate::attentions::Attentions;
use crate::reservations::Reservations;
use crate::wire::{Cdb, Refusal, Reply};

/// All initiators of one unit.
#[derive(Debug, Default)]
pub(crate) struct Initiators {
    pub attentions: Attentions,
    reservations: Reservations,
    /// Who prevents the removal of the medium.
    preventing: BTreeSet<Nexus>,
}

impl Initiators {
    /// Of a unit that was just switched on.
    pub fn new() -> Self {
        let mut new = Self::default();
        new.attentions.tell_all(code::POWER_ON_OR_RESET);
        new
    }

    /// Whether somebody prevents the removal of the medium.
    pub fn prevented(&self) -> bool {
        !self.preventing.is_empty()
    }

    /// A command comes: refuses it if another's reservation forbids it (which goes before all else), or if the
    /// initiator must be told of something first.
    pub fn admit(&mut self, nexus: Nexus, cdb: &Cdb, deferred: &mut Option<Sense>) -> Reply {
        self.attentions.connected(nexus);
        self.reservations.admit(nexus, cdb)?;
        if cdb.yields_to_pending() {
            if let Some(sense) = deferred.take() {
                return Err(sense.into());
            }
            if let Some(attention) = self.attentions.take(nexus) {
                return Err(Sense::new(Key::UnitAttention, attention).into());
            }
        }
        Ok(Vec::new())
    }

    /// Answers the commands that are about initiators; `None` if this is none of them.
    pub fn answer(&mut self, nexus: Nexus, cdb: &Cdb, data_out: &[u8]) -> Option<Reply> {
        Some(match cdb.byte(0) {
            opcode::PERSISTENT_RESERVE_IN => self.reservations.report(cdb).map_err(Refusal::from),
            opcode::PERSISTENT_RESERVE_OUT => {
                self.reservations
                    .order(nexus, cdb, data_out, &mut self.attentions)
            }
            opcode::RESERVE_6 => self.reservations.reserve_6(nexus, true),
            opcode::RELEASE_6 => self.reservations.reserve_6(nexus, false),
            opcode::PREVENT_ALLOW_MEDIUM_REMOVAL => {
                self.prevent(nexus, cdb.prevents());
                Ok(Vec::new())
            }
            _ => return None,
        })
    }

    /// Who allows removal takes back its own prevention, and those of connections that are gone: they were its
    /// own host's before, which a drive with one port for it would not tell apart.
    fn prevent(&mut self, nexus: Nexus, prevent: bool) {
        if prevent {
            self.preventing.insert(nexus);
        } else {
            let attentions = &self.attentions;
            self.preventing
                .retain(|other| *other != nexus && attentions.knows(*other));
        }
    }

    /// The power was cut, or the unit was reset: which, the attention says.
    pub fn power_cut(&mut self, attention: (u8, u8)) {
        self.attentions.forget();
        self.attentions.tell_all(attention);
        self.preventing.clear();
        self.reservations.power_cut();
    }

    /// An initiator of its own port is there. It is told of the power that came, or that the connection was lost, before
    /// anything else.
    pub fn connected(&mut self, nexus: Nexus, again: bool) {
        self.attentions.connected(nexus);
        let news = if again {
            code::NEXUS_LOSS
        } else {
            code::POWER_ON_OR_RESET
        };
        self.attentions.tell(nexus, news);
    }

    /// The initiator is gone. What it prevents stays prevented, as after the death of a program on a host.
    pub fn disconnected(&mut self, nexus: Nexus) {
        self.attentions.disconnected(nexus);
        self.reservations.disconnected(nexus);
    }
}
