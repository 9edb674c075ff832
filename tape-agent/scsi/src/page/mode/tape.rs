//! Mode pages of tape drives that are more than a bit: early warning and append-only mode, partitions.

use super::{DEVICE_CONFIGURATION, MEDIUM_PARTITION};
use crate::page::{Error, at_least, number};

/// Page 10h, subpage 01h: device configuration extension (SSC-5 8.5.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extension {
    /// Append-only mode: what is recorded can't be overwritten without ALLOW OVERWRITE (WRITE MODE 1).
    pub append_only: bool,
    /// What a short ERASE does: 0 as the drive likes, 1 nothing, 2 it records end of data here.
    pub short_erase: u8,
    /// Programmable early warning: so many MB (10^6 bytes) before early warning; 0: none.
    pub early_warning_megabytes: u16,
}

/// Code and subpage of [`Extension`].
pub const EXTENSION: (u8, u8) = (DEVICE_CONFIGURATION, 0x01);
const EXTENSION_LENGTH: usize = 32;

impl Extension {
    /// Reads the page, its header included, as [`super::Mode::page`] gives it.
    pub fn parse(page: &[u8]) -> Result<Self, Error> {
        let page = at_least("the device configuration extension", page, 8)?;
        Ok(Self {
            append_only: page[5] >> 4 == 1,
            short_erase: page[5] & 0x0f,
            early_warning_megabytes: number(&page[6..8]) as u16,
        })
    }

    /// Builds the page. What else a drive keeps in it is zero: to change it, change what the drive gave.
    pub fn build(&self) -> Vec<u8> {
        let mut page = vec![0; EXTENSION_LENGTH];
        page[0] = 0x40 | EXTENSION.0;
        page[1] = EXTENSION.1;
        page[3] = (EXTENSION_LENGTH - 4) as u8;
        self.put(&mut page);
        page
    }

    /// Puts the values into a page that a drive gave; one that is too short stays as it is.
    pub fn put(&self, page: &mut [u8]) {
        if let Some(fields) = page.get_mut(5..8) {
            fields[0] = (u8::from(self.append_only) << 4) | (self.short_erase & 0x0f);
            fields[1..].copy_from_slice(&self.early_warning_megabytes.to_be_bytes());
        }
    }
}

/// Page 11h: medium partition (SSC-5 8.5.4).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Partitions {
    /// How many there may be besides partition 0.
    pub additional_possible: u8,
    /// How many there are besides partition 0.
    pub additional: u8,
    /// The initiator chose their sizes (IDP), not the drive (FDP, SDP).
    pub chosen: bool,
    /// The sizes below are in units of ten to this power bytes.
    pub unit: u8,
    /// Sizes, from partition 0 on; `FFFFh`: what the others leave.
    pub sizes: Vec<u16>,
}

impl Partitions {
    /// Reads the page, its header included.
    pub fn parse(page: &[u8]) -> Result<Self, Error> {
        let page = at_least("the medium partition page", page, 8)?;
        Ok(Self {
            additional_possible: page[2],
            additional: page[3],
            chosen: page[4] & 0x20 != 0,
            unit: page[6] & 0x0f,
            sizes: page[8..]
                .chunks_exact(2)
                .map(|size| number(size) as u16)
                .collect(),
        })
    }

    /// Builds the page. If the initiator did not choose, the drive did (FDP).
    pub fn build(&self) -> Vec<u8> {
        let sizes = &self.sizes[..self.sizes.len().min(64)];
        let mut page = vec![
            MEDIUM_PARTITION,
            (6 + 2 * sizes.len()) as u8,
            self.additional_possible,
            self.additional,
            // FDP or IDP; PSUM 11b: sizes in the unit given.
            if self.chosen { 0x20 } else { 0x80 } | 0x18,
            0x03, // format and partitions are recognised
            self.unit & 0x0f,
            0,
        ];
        page.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
        page
    }
}
