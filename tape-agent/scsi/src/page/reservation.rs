//! Persistent reservations (SPC-5 5.14): what PERSISTENT RESERVE IN brings and OUT sends.

use super::{Error, at_least, number};

/// What others may do while one holds the reservation (TYPE).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Type {
    /// Others may not write.
    WriteExclusive = 0x1,
    /// Others may neither write nor read.
    ExclusiveAccess = 0x3,
    /// Who is not registered may not write.
    WriteExclusiveRegistrants = 0x5,
    /// Who is not registered may neither write nor read.
    ExclusiveAccessRegistrants = 0x6,
    /// The same as 5h; every registrant holds it.
    WriteExclusiveAll = 0x7,
    /// The same as 6h; every registrant holds it.
    ExclusiveAccessAll = 0x8,
}

impl Type {
    /// The type with this code.
    pub fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0x1 => Self::WriteExclusive,
            0x3 => Self::ExclusiveAccess,
            0x5 => Self::WriteExclusiveRegistrants,
            0x6 => Self::ExclusiveAccessRegistrants,
            0x7 => Self::WriteExclusiveAll,
            0x8 => Self::ExclusiveAccessAll,
            _ => return None,
        })
    }

    /// Whether every registrant holds the reservation.
    pub fn all_hold(self) -> bool {
        matches!(self, Self::WriteExclusiveAll | Self::ExclusiveAccessAll)
    }

    /// Whether whoever is registered may do everything.
    pub fn registrants_only(self) -> bool {
        self.all_hold()
            || matches!(
                self,
                Self::WriteExclusiveRegistrants | Self::ExclusiveAccessRegistrants
            )
    }

    /// Whether those outside may still read.
    pub fn others_read(self) -> bool {
        matches!(
            self,
            Self::WriteExclusive | Self::WriteExclusiveRegistrants | Self::WriteExclusiveAll
        )
    }
}

/// What READ KEYS brings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Keys {
    /// Counts what was done with registrations (PRGENERATION).
    pub generation: u32,
    /// The keys, one a registered nexus, in no order that means something.
    pub keys: Vec<u64>,
}

impl Keys {
    /// Reads the answer; keys that the allocation length cut off are missing.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let bytes = at_least("the list of keys", bytes, 8)?;
        let end = bytes
            .len()
            .min((number(&bytes[4..8]) as usize).saturating_add(8));
        Ok(Self {
            generation: number(&bytes[0..4]) as u32,
            keys: bytes[8..end].chunks_exact(8).map(number).collect(),
        })
    }

    /// Builds the answer.
    pub fn build(&self) -> Vec<u8> {
        let mut bytes = self.generation.to_be_bytes().to_vec();
        bytes.extend(((self.keys.len() * 8) as u32).to_be_bytes());
        bytes.extend(self.keys.iter().flat_map(|key| key.to_be_bytes()));
        bytes
    }
}

/// Who holds a reservation of which type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// The holder's key; 0 for the types that all registrants hold.
    pub key: u64,
    /// What others may do.
    pub kind: Type,
}

/// What READ RESERVATION brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reservation {
    /// As in [`Keys`].
    pub generation: u32,
    /// The holder, if the unit is reserved.
    pub holder: Option<Holder>,
}

impl Reservation {
    /// Reads the answer.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        const NAME: &str = "the reservation";
        let bytes = at_least(NAME, bytes, 8)?;
        let generation = number(&bytes[0..4]) as u32;
        if number(&bytes[4..8]) == 0 {
            return Ok(Self {
                generation,
                holder: None,
            });
        }
        let bytes = at_least(NAME, bytes, 24)?;
        let kind = Type::from_code(bytes[21] & 0x0f).ok_or(Error::Malformed {
            page: NAME,
            reason: "it is of an unknown type",
        })?;
        Ok(Self {
            generation,
            holder: Some(Holder {
                key: number(&bytes[8..16]),
                kind,
            }),
        })
    }

    /// Builds the answer.
    pub fn build(&self) -> Vec<u8> {
        let mut bytes = self.generation.to_be_bytes().to_vec();
        match self.holder {
            None => bytes.extend([0; 4]),
            Some(holder) => {
                bytes.extend([0, 0, 0, 16]);
                bytes.extend(holder.key.to_be_bytes());
                bytes.extend([0, 0, 0, 0, 0, holder.kind as u8, 0, 0]);
            }
        }
        bytes
    }
}

/// What REPORT CAPABILITIES brings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(clippy::struct_excessive_bools)] // independent bits of the wire
pub struct Capabilities {
    /// RESERVE(6) and RELEASE(6) are compatible with it (CRH).
    pub compatible_reserve: bool,
    /// Registrations can be kept over power loss (`PTPL_C`).
    pub persist_possible: bool,
    /// Registrations are kept over power loss now (`PTPL_A`).
    pub persist_active: bool,
    /// The types that there are; `None` if the device doesn't say.
    pub types: Option<Vec<Type>>,
}

/// Bits of the type mask, bytes 4 and 5.
const MASK: [(Type, usize, u8); 6] = [
    (Type::WriteExclusive, 4, 1),
    (Type::ExclusiveAccess, 4, 3),
    (Type::WriteExclusiveRegistrants, 4, 5),
    (Type::ExclusiveAccessRegistrants, 4, 6),
    (Type::WriteExclusiveAll, 4, 7),
    (Type::ExclusiveAccessAll, 5, 0),
];

impl Capabilities {
    /// Reads the answer.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let bytes = at_least("the reservation capabilities", bytes, 8)?;
        let types = (bytes[3] & 0x80 != 0).then(|| {
            MASK.iter()
                .filter(|(_, byte, bit)| bytes[*byte] & (1 << bit) != 0)
                .map(|(kind, _, _)| *kind)
                .collect()
        });
        Ok(Self {
            compatible_reserve: bytes[2] & 0x10 != 0,
            persist_possible: bytes[2] & 0x01 != 0,
            persist_active: bytes[3] & 0x01 != 0,
            types,
        })
    }

    /// Builds the answer.
    pub fn build(&self) -> Vec<u8> {
        let mut bytes = vec![0, 8, 0, 0, 0, 0, 0, 0];
        bytes[2] = (u8::from(self.compatible_reserve) << 4) | u8::from(self.persist_possible);
        bytes[3] = (u8::from(self.types.is_some()) << 7) | u8::from(self.persist_active);
        for (kind, byte, bit) in MASK {
            if self
                .types
                .as_ref()
                .is_some_and(|types| types.contains(&kind))
            {
                bytes[byte] |= 1 << bit;
            }
        }
        bytes
    }
}

/// The parameter list of PERSISTENT RESERVE OUT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Parameters {
    /// The sender's key; 0 when it registers for the first time.
    pub key: u64,
    /// The key to register (0: not registered any more), or the one to pre-empt.
    pub service_key: u64,
    /// Keep registrations over power loss (APTPL); only when registering.
    pub persist: bool,
    /// Register at all ports of the device (`ALL_TG_PT`); only when registering.
    pub all_ports: bool,
    /// Register further initiators (`SPEC_I_PT`), which few devices can.
    pub other_initiators: bool,
}

/// Bytes of the parameter list.
pub const PARAMETERS_LENGTH: usize = 24;

impl Parameters {
    /// Reads the list.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let bytes = at_least("the reservation parameters", bytes, PARAMETERS_LENGTH)?;
        Ok(Self {
            key: number(&bytes[0..8]),
            service_key: number(&bytes[8..16]),
            persist: bytes[20] & 0x01 != 0,
            all_ports: bytes[20] & 0x04 != 0,
            other_initiators: bytes[20] & 0x08 != 0,
        })
    }

    /// Builds the list.
    pub fn build(&self) -> Vec<u8> {
        let mut bytes = vec![0; PARAMETERS_LENGTH];
        bytes[0..8].copy_from_slice(&self.key.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.service_key.to_be_bytes());
        bytes[20] = u8::from(self.persist)
            | (u8::from(self.all_ports) << 2)
            | (u8::from(self.other_initiators) << 3);
        bytes
    }
}
