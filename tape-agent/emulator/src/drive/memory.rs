//! READ and WRITE ATTRIBUTE: the cartridge's memory, as the drive shows it.
//!
//! Readable as soon as the cartridge is in the drive, threaded or not.

use taf_scsi::page::attribute::{self, Attribute};
use taf_scsi::sense::{Key, Sense, code};

use super::Drive;
use super::readiness::not_ready;
use crate::cartridge::{Cartridge, Kind, Memory};
use crate::wire::{Cdb, Check, Outcome, cut, illegal, invalid_field, invalid_parameter};

const MIB: u64 = 1 << 20;
/// Auxiliary memory read error.
const READ_ERROR: (u8, u8) = (0x11, 0x12);
/// Who made the emulated cartridges, and when.
const MANUFACTURER: &str = "TAF";
const MADE: &str = "20260101";

impl Drive {
    fn with_memory(&self, cdb: &Cdb) -> Result<&Cartridge, Check> {
        let cartridge = self.cartridge.as_ref().ok_or_else(|| not_ready(false))?;
        if cartridge.memory_damaged() {
            return Err(Sense::new(Key::MediumError, READ_ERROR).into());
        }
        if cdb.byte(5) != 0 || cdb.byte(7) >= partitions(cartridge) {
            return Err(invalid_field()); // another volume, another partition
        }
        Ok(cartridge)
    }

    pub(super) fn read_attribute(&self, cdb: &Cdb) -> Outcome {
        let cartridge = self.with_memory(cdb)?;
        let first = cdb.field::<2>(8) as u16;
        let mut all = attributes(cartridge, cdb.byte(7));
        let data = match cdb.byte(1) & 0x1f {
            // Attribute values: the first must be one that there is.
            0x00 => {
                let from = all
                    .iter()
                    .position(|one| one.id == first)
                    .ok_or_else(invalid_field)?;
                attribute::build(&all.split_off(from))
            }
            // Attribute list.
            0x01 => {
                let ids: Vec<u16> = all.iter().map(|one| one.id).collect();
                attribute::list_build(&ids)
            }
            // Logical volume list: first number, how many.
            0x02 => vec![0, 2, 0, 1],
            // Partition list: the same.
            0x03 => vec![0, 2, 0, partitions(cartridge)],
            _ => return Err(invalid_field()),
        };
        Ok(cut(data, cdb.field::<4>(10)))
    }

    pub(super) fn write_attribute(&mut self, cdb: &Cdb, data_out: &[u8]) -> Outcome {
        let cartridge = self.with_memory(cdb)?;
        if cartridge.write_protected() {
            return Err(Sense::new(Key::DataProtect, code::WRITE_PROTECTED).into());
        }
        let length = cdb.field::<4>(10) as usize;
        if length == 0 {
            return Ok(Vec::new());
        }
        let too_short = || illegal(code::INVALID_PARAMETER_LENGTH);
        let list = data_out.get(..length).ok_or_else(too_short)?;
        let list = attribute::parse_whole(list).map_err(|_| too_short())?;
        // All or nothing, so on a copy first.
        let mut memory = cartridge.memory().clone();
        let mut before = None;
        for one in list {
            if before.is_some_and(|id| id >= one.id) {
                return Err(invalid_parameter()); // ascending, says the standard
            }
            before = Some(one.id);
            set(&mut memory, one)?;
        }
        if memory.used() > Memory::CAPACITY {
            return Err(illegal(code::AUXILIARY_MEMORY_FULL));
        }
        if let Some(cartridge) = &mut self.cartridge {
            *cartridge.memory_mut() = memory;
        }
        self.save_memory();
        Ok(Vec::new())
    }

    /// Brings the cartridge's memory to its file.
    pub(super) fn save_memory(&mut self) {
        if let Some(cartridge) = &mut self.cartridge
            && let Err(error) = cartridge.save_memory()
        {
            tracing::error!(%error, "the cartridge's memory was not written");
            self.alert(super::log::alert::MEMORY_FAILURE);
        }
    }
}

/// Takes one attribute from a host; one without a value is removed.
fn set(memory: &mut Memory, one: Attribute) -> Result<(), Check> {
    let vendors_own = (0x1400..=0x17ff).contains(&one.id);
    let fixed = match attribute::host_attribute(one.id) {
        Some((format, length)) => {
            if one.format != format {
                return Err(invalid_parameter());
            }
            length
        }
        None if vendors_own => None,
        None => return Err(invalid_parameter()),
    };
    if one.value.is_empty() {
        memory.host.remove(&one.id);
        return Ok(());
    }
    if fixed.is_some_and(|length| usize::from(length) != one.value.len()) {
        return Err(invalid_parameter());
    }
    let one = Attribute {
        read_only: false,
        ..one
    };
    memory.host.insert(one.id, one);
    Ok(())
}

fn partitions(cartridge: &Cartridge) -> u8 {
    if cartridge.meta().second_partition == 0 {
        1
    } else {
        2
    }
}

/// All attributes of a partition, ascending.
fn attributes(cartridge: &Cartridge, partition: u8) -> Vec<Attribute> {
    let meta = cartridge.meta();
    let memory = cartridge.memory();
    let history = &memory.history;
    let number = Attribute::fixed_number;
    let free = Memory::CAPACITY.saturating_sub(memory.used());
    let (remaining, maximum) = if partition == 0 {
        (cartridge.remaining(), cartridge.capacity())
    } else {
        (meta.second_partition, meta.second_partition)
    };
    let (kind, uses) = match meta.kind {
        Kind::Data => (0x00, 0),
        Kind::WriteOnce => (0x80, 0),
        Kind::Cleaning => (0x01, history.cleanings),
    };
    let mut all = vec![
        number(attribute::REMAINING_CAPACITY, remaining / MIB, 8),
        number(attribute::MAXIMUM_CAPACITY, maximum / MIB, 8),
        Attribute {
            id: attribute::TAPE_ALERT_FLAGS,
            read_only: true,
            format: attribute::format::BINARY,
            value: history.alerts().to_bytes().to_vec(),
        },
        number(attribute::LOAD_COUNT, meta.loads, 8),
        number(attribute::MAM_SPACE_REMAINING, free as u64, 8),
        number(
            attribute::VOLUME_CHANGE_REFERENCE,
            history.change_reference,
            4,
        ),
        number(attribute::WRITTEN_IN_LIFE, history.written / MIB, 8),
        number(attribute::READ_IN_LIFE, history.read / MIB, 8),
        number(attribute::WRITTEN_IN_LOAD, history.last_written / MIB, 8),
        number(attribute::READ_IN_LOAD, history.last_read / MIB, 8),
        Attribute::fixed_text(attribute::MEDIUM_MANUFACTURER, MANUFACTURER, 8),
        Attribute::fixed_text(attribute::MEDIUM_SERIAL_NUMBER, &meta.serial, 32),
        number(attribute::MEDIUM_DENSITY, meta.density.into(), 1),
        Attribute::fixed_text(attribute::MANUFACTURE_DATE, MADE, 8),
        number(attribute::MAM_CAPACITY, Memory::CAPACITY as u64, 8),
        number(attribute::MEDIUM_TYPE, kind, 1),
        number(attribute::MEDIUM_TYPE_INFORMATION, uses, 2),
    ];
    all.extend(memory.host.values().cloned());
    all
}
