//! Who may use a logical unit: persistent reservations (SPC-5 5.14) and the older RESERVE.
//!
//! A registration belongs to a nexus, which here is a connection. It outlives the connection, as one of a host
//! that crashed would: the next connection is another initiator and has to pre-empt it. Registrations survive a
//! power cut if they were made so (APTPL), but not the end of the emulator's process.

use std::collections::BTreeMap;

use taf_scsi::cdb::{ReserveOut, opcode};
use taf_scsi::page::reservation::{
    Capabilities, Holder, Keys, PARAMETERS_LENGTH, Parameters, Reservation, Type,
};
use taf_scsi::sense::code;
use taf_scsi::status;
use taf_scsi::target::Nexus;

use crate::attentions::Attentions;
use crate::wire::{Cdb, Outcome, Refusal, cut, illegal, invalid_field, invalid_parameter};

const CONFLICT: Refusal = Refusal::Status(status::RESERVATION_CONFLICT);

/// What is registered and reserved at one logical unit.
#[derive(Debug, Default)]
pub(crate) struct Reservations {
    generation: u32,
    keys: BTreeMap<Nexus, u64>,
    held: Option<Held>,
    /// Registrations survive a power cut.
    persist: bool,
    /// RESERVE(6).
    old: Option<Nexus>,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    /// Whoever reserved; of no meaning for the types that all registrants hold.
    by: Nexus,
    kind: Type,
}

impl Reservations {
    /// Refuses a command that another initiator's reservation forbids.
    pub fn admit(&self, nexus: Nexus, cdb: &Cdb) -> Result<(), Refusal> {
        let class = Class::of(cdb);
        if class == Class::Always {
            return Ok(());
        }
        if self.old.is_some_and(|holder| holder != nexus) {
            return Err(CONFLICT);
        }
        let Some(held) = self.held else {
            return Ok(());
        };
        let allowed = if held.kind.registrants_only() {
            self.keys.contains_key(&nexus)
        } else {
            held.by == nexus
        };
        if allowed || (class == Class::Look && held.kind.others_read()) {
            Ok(())
        } else {
            Err(CONFLICT)
        }
    }

    /// RESERVE(6) and RELEASE(6): with registrations they change nothing, and are refused to strangers (CRH).
    pub fn reserve_6(&mut self, nexus: Nexus, reserve: bool) -> Result<Vec<u8>, Refusal> {
        if !self.keys.is_empty() {
            return if self.keys.contains_key(&nexus) {
                Ok(Vec::new())
            } else {
                Err(CONFLICT)
            };
        }
        if reserve {
            if self.old.is_some_and(|holder| holder != nexus) {
                return Err(CONFLICT);
            }
            self.old = Some(nexus);
        } else if self.old == Some(nexus) {
            self.old = None;
        }
        Ok(Vec::new())
    }

    /// PERSISTENT RESERVE IN.
    pub fn report(&self, cdb: &Cdb) -> Outcome {
        let data = match cdb.byte(1) & 0x1f {
            0x00 => Keys {
                generation: self.generation,
                keys: self.keys.values().copied().collect(),
            }
            .build(),
            0x01 => Reservation {
                generation: self.generation,
                holder: self.held.map(|held| Holder {
                    key: if held.kind.all_hold() {
                        0
                    } else {
                        self.keys.get(&held.by).copied().unwrap_or(0)
                    },
                    kind: held.kind,
                }),
            }
            .build(),
            0x02 => Capabilities {
                compatible_reserve: true,
                persist_possible: true,
                persist_active: self.persist,
                types: Some(vec![
                    Type::WriteExclusive,
                    Type::ExclusiveAccess,
                    Type::WriteExclusiveRegistrants,
                    Type::ExclusiveAccessRegistrants,
                    Type::WriteExclusiveAll,
                    Type::ExclusiveAccessAll,
                ]),
            }
            .build(),
            _ => return Err(invalid_field()),
        };
        Ok(cut(data, cdb.field::<2>(7)))
    }

    /// PERSISTENT RESERVE OUT.
    pub fn order(
        &mut self,
        nexus: Nexus,
        cdb: &Cdb,
        data_out: &[u8],
        attentions: &mut Attentions,
    ) -> Result<Vec<u8>, Refusal> {
        let action = ReserveOut::from_code(cdb.byte(1) & 0x1f).ok_or_else(invalid_field)?;
        let list = data_out
            .get(..cdb.field::<4>(5) as usize)
            .filter(|list| list.len() == PARAMETERS_LENGTH)
            .ok_or_else(|| illegal(code::INVALID_PARAMETER_LENGTH))?;
        let asked = Parameters::parse(list).map_err(|_| invalid_parameter())?;
        if asked.other_initiators {
            return Err(invalid_parameter().into());
        }
        let own = self.keys.get(&nexus).copied();
        // Registering with no key yet states key 0; everything else needs a registration.
        let stated = match action {
            ReserveOut::RegisterAndIgnore => true,
            ReserveOut::Register => own.unwrap_or(0) == asked.key,
            _ => own == Some(asked.key),
        };
        if !stated {
            return Err(CONFLICT);
        }
        match action {
            ReserveOut::Register | ReserveOut::RegisterAndIgnore => {
                self.register(nexus, &asked, attentions);
            }
            ReserveOut::Reserve => self.reserve(nexus, kind(cdb)?)?,
            ReserveOut::Release => self.release(nexus, cdb, attentions)?,
            ReserveOut::Clear => {
                self.generation = self.generation.wrapping_add(1);
                self.held = None;
                for other in std::mem::take(&mut self.keys).into_keys() {
                    if other != nexus {
                        attentions.tell(other, code::RESERVATIONS_PREEMPTED);
                    }
                }
            }
            ReserveOut::Preempt | ReserveOut::PreemptAndAbort => {
                self.preempt(nexus, asked.service_key, kind(cdb)?, attentions)?;
            }
        }
        Ok(Vec::new())
    }

    fn register(&mut self, nexus: Nexus, asked: &Parameters, attentions: &mut Attentions) {
        if asked.service_key != 0 {
            self.keys.insert(nexus, asked.service_key);
            self.persist = asked.persist;
            self.generation = self.generation.wrapping_add(1);
        } else if self.keys.remove(&nexus).is_some() {
            self.generation = self.generation.wrapping_add(1);
            self.lost_holder(nexus, attentions);
        }
    }

    /// After `nexus` lost its registration: a reservation that it alone held ends.
    fn lost_holder(&mut self, nexus: Nexus, attentions: &mut Attentions) {
        let Some(held) = self.held else {
            return;
        };
        let ends = if held.kind.all_hold() {
            self.keys.is_empty()
        } else {
            held.by == nexus
        };
        if ends {
            self.held = None;
            if held.kind.registrants_only() {
                self.tell_registrants(nexus, code::RESERVATIONS_RELEASED, attentions);
            }
        }
    }

    fn tell_registrants(&self, but: Nexus, code: (u8, u8), attentions: &mut Attentions) {
        for other in self.keys.keys().filter(|other| **other != but) {
            attentions.tell(*other, code);
        }
    }

    fn holds(&self, nexus: Nexus) -> bool {
        self.held
            .is_some_and(|held| held.kind.all_hold() || held.by == nexus)
    }

    fn reserve(&mut self, nexus: Nexus, kind: Type) -> Result<(), Refusal> {
        match self.held {
            None => {
                self.held = Some(Held { by: nexus, kind });
                Ok(())
            }
            Some(held) if self.holds(nexus) && held.kind == kind => Ok(()),
            Some(_) => Err(CONFLICT),
        }
    }

    fn release(
        &mut self,
        nexus: Nexus,
        cdb: &Cdb,
        attentions: &mut Attentions,
    ) -> Result<(), Refusal> {
        let Some(held) = self.held else {
            return Ok(());
        };
        if !self.holds(nexus) {
            return Ok(());
        }
        if cdb.byte(2) != held.kind as u8 {
            return Err(illegal(code::INVALID_RELEASE).into());
        }
        self.held = None;
        if held.kind.registrants_only() {
            self.tell_registrants(nexus, code::RESERVATIONS_RELEASED, attentions);
        }
        Ok(())
    }

    fn preempt(
        &mut self,
        nexus: Nexus,
        victim: u64,
        kind: Type,
        attentions: &mut Attentions,
    ) -> Result<(), Refusal> {
        let everybody = self.held.is_some_and(|held| held.kind.all_hold());
        let takes_over = self.held.is_some_and(|held| {
            if everybody {
                victim == 0
            } else {
                self.keys.get(&held.by) == Some(&victim)
            }
        });
        if victim == 0 && !everybody {
            return Err(invalid_parameter().into());
        }
        let gone: Vec<Nexus> = self
            .keys
            .iter()
            .filter(|(other, key)| **other != nexus && (**key == victim || victim == 0))
            .map(|(other, _)| *other)
            .collect();
        if gone.is_empty() && !takes_over && !self.keys.values().any(|key| *key == victim) {
            return Err(CONFLICT);
        }
        self.generation = self.generation.wrapping_add(1);
        for other in gone {
            self.keys.remove(&other);
            attentions.tell(other, code::REGISTRATIONS_PREEMPTED);
        }
        if takes_over {
            let changed = self.held.is_some_and(|held| held.kind != kind);
            self.held = Some(Held { by: nexus, kind });
            if changed {
                self.tell_registrants(nexus, code::RESERVATIONS_RELEASED, attentions);
            }
        }
        Ok(())
    }

    /// What a power cut or a reset leaves of it.
    pub fn power_cut(&mut self) {
        self.old = None;
        if !self.persist {
            *self = Self {
                generation: 0,
                ..Self::default()
            };
        }
    }

    /// A connection is gone: registrations stay, RESERVE(6) does not.
    pub fn disconnected(&mut self, nexus: Nexus) {
        if self.old == Some(nexus) {
            self.old = None;
        }
    }
}

/// The type, for the whole unit.
fn kind(cdb: &Cdb) -> Result<Type, Refusal> {
    if cdb.byte(2) & 0xf0 != 0 {
        return Err(invalid_field().into());
    }
    Type::from_code(cdb.byte(2)).ok_or_else(|| invalid_field().into())
}

/// What a command does to others' work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Allowed whoever holds the unit.
    Always,
    /// Changes nothing and moves nothing: allowed beside a write exclusive reservation.
    Look,
    /// Everything else. Reading and moving are among it: a tape has one head.
    Use,
}

impl Class {
    fn of(cdb: &Cdb) -> Self {
        match cdb.byte(0) {
            opcode::INQUIRY
            | opcode::REPORT_LUNS
            | opcode::REQUEST_SENSE
            | opcode::TEST_UNIT_READY
            | opcode::LOG_SENSE
            | opcode::READ_BLOCK_LIMITS
            | opcode::PERSISTENT_RESERVE_IN
            | opcode::PERSISTENT_RESERVE_OUT
            | opcode::RESERVE_6
            | opcode::RELEASE_6 => Self::Always,
            // Allowing removal takes nothing from others: each takes back but its own prevention.
            opcode::PREVENT_ALLOW_MEDIUM_REMOVAL if !cdb.prevents() => Self::Always,
            opcode::MODE_SENSE_6
            | opcode::MODE_SENSE_10
            | opcode::READ_ATTRIBUTE
            | opcode::READ_POSITION
            | opcode::READ_ELEMENT_STATUS
            | opcode::REPORT_DENSITY_SUPPORT
            | opcode::SECURITY_PROTOCOL_IN
            | opcode::MAINTENANCE_IN => Self::Look,
            _ => Self::Use,
        }
    }
}
