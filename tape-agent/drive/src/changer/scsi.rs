//! A media changer that speaks SMC.
//!
//! Element status is asked per kind of element, tags and identifiers apart, in pages: some libraries refuse
//! both at once, some answer garbage for all kinds together, some know lengths of two bytes only.

use std::collections::HashMap;

use taf_scsi::cdb::{self, ElementType};
use taf_scsi::page::element_status::{Element, Report};
use taf_scsi::page::{self, inquiry};
use taf_scsi::sense::Sense;
use taf_scsi::transport::Transport;

use super::{Changer, DriveElement, Inventory, SlotElement};
use crate::device::Device;
use crate::error::Error;
use crate::outcome::Identity;

const ALLOCATION: usize = 0xffff;
const COUNT: u16 = 1000;

/// A SCSI media changer behind any transport.
pub struct ScsiChanger {
    device: Device,
}

impl ScsiChanger {
    /// Asks who is there; [`Error::WrongDevice`] if it isn't a changer. Takes no unit attention.
    pub fn new(transport: Box<dyn Transport>) -> Result<Self, Error> {
        Ok(Self {
            device: Device::new(transport, inquiry::TYPE_CHANGER, "media changer")?,
        })
    }

    fn elements(
        &mut self,
        kind: ElementType,
        tags: bool,
        identify: bool,
    ) -> Result<Vec<Element>, Error> {
        let capacity = ALLOCATION.min(self.device.transport.max_transfer());
        let mut found: Vec<Element> = Vec::new();
        let mut start = 0;
        loop {
            let cdb = cdb::read_element_status(kind, start, COUNT, tags, identify, capacity as u32);
            let bytes = self.device.fetch(&cdb, capacity)?;
            let report = Report::parse(&bytes)?;
            let cut = report.needed > bytes.len();
            let more = cut || report.elements.len() >= usize::from(COUNT);
            let mut fresh: Vec<Element> = report
                .elements
                .into_iter()
                .filter(|element| element.kind == kind && element.address >= start)
                .collect();
            fresh.sort_by_key(|element| element.address);
            fresh.dedup_by_key(|element| element.address);
            // The last of an answer that was cut may lack its end: it is asked for again, as the first.
            let next = if cut && fresh.len() > 1 {
                fresh.pop().map(|element| element.address)
            } else {
                let last = fresh.last();
                last.and_then(|element| element.address.checked_add(1))
            };
            found.append(&mut fresh);
            match next {
                Some(next) if more => start = next,
                // Nothing is not what the library said.
                _ if cut && found.is_empty() => {
                    return Err(Error::Answer(page::Error::Malformed {
                        page: "element status",
                        reason: "no element came whole",
                    }));
                }
                _ => return Ok(found),
            }
        }
    }

    /// Elements of a kind that a library may lack.
    fn optional(&mut self, kind: ElementType, tags: bool) -> Result<Vec<Element>, Error> {
        match self.elements(kind, tags, false) {
            Err(Error::IllegalRequest(_)) => Ok(Vec::new()),
            outcome => outcome,
        }
    }

    fn serials(&mut self) -> Result<HashMap<u16, String>, Error> {
        let drives = match self.elements(ElementType::DataTransfer, false, true) {
            Ok(drives) => drives,
            // A library without identifiers is one whose drives are named by address.
            Err(Error::IllegalRequest(_) | Error::Answer(_)) => Vec::new(),
            Err(error) => return Err(error),
        };
        Ok(drives
            .into_iter()
            .filter_map(|drive| Some((drive.address, drive.identifier?.serial()?)))
            .collect())
    }
}

impl Changer for ScsiChanger {
    fn identity(&self) -> &Identity {
        &self.device.identity
    }

    fn attentions(&mut self) -> Result<Vec<Sense>, Error> {
        self.device.attentions()
    }

    fn ready(&mut self) -> Result<(), Error> {
        self.device.order(&cdb::test_unit_ready())
    }

    fn inventory(&mut self) -> Result<Inventory, Error> {
        let pickers = match self.optional(ElementType::Transport, false) {
            // Its address is good to know and no more.
            Err(Error::Answer(_)) => Vec::new(),
            outcome => outcome?,
        };
        let slots = self.elements(ElementType::Storage, true, false)?;
        let mail_slots = self.optional(ElementType::ImportExport, true)?;
        let drives = self.elements(ElementType::DataTransfer, true, false)?;
        let mut serials = self.serials()?;
        Ok(Inventory {
            drives: drives
                .into_iter()
                .map(|element| DriveElement {
                    address: element.address,
                    serial: serials.remove(&element.address),
                    full: element.full,
                    accessible: element.accessible,
                    barcode: element.volume_tag,
                    source_slot: element.source,
                    exception: element.exception,
                })
                .collect(),
            slots: slots.into_iter().map(slot).collect(),
            mail_slots: mail_slots.into_iter().map(slot).collect(),
            picker: pickers.first().map(|element| element.address),
            picker_exception: pickers.iter().find_map(|element| element.exception),
        })
    }

    fn scan(&mut self) -> Result<(), Error> {
        self.device.order(&cdb::initialize_element_status())
    }

    fn move_medium(&mut self, from: u16, to: u16) -> Result<(), Error> {
        // Address 0 as picker is the library's default one.
        self.device.order(&cdb::move_medium(0, from, to))
    }
}

fn slot(element: Element) -> SlotElement {
    SlotElement {
        address: element.address,
        full: element.full,
        accessible: element.accessible,
        barcode: element.volume_tag,
        exception: element.exception,
    }
}

#[cfg(test)]
mod tests;
