//! Mode parameters: header, block descriptor and pages, for the 6 and 10 byte commands (SPC-5 7.5, SSC-5 8.4).

use super::{Error, at_least, number};

pub mod tape;

/// Page 0Ah: control; its bit `D_SENSE` chooses sense in descriptor format.
pub const CONTROL: u8 = 0x0a;
/// Page 0Fh: data compression.
pub const DATA_COMPRESSION: u8 = 0x0f;
/// Page 10h: device configuration; its subpage 01h holds append-only mode and early warning.
pub const DEVICE_CONFIGURATION: u8 = 0x10;
/// Page 11h: medium partition.
pub const MEDIUM_PARTITION: u8 = 0x11;
/// Page 1Dh: medium configuration on tape (WORM), element address assignment on changers.
pub const MEDIUM_CONFIGURATION: u8 = 0x1d;
/// Page 3Fh: all pages.
pub const ALL_PAGES: u8 = 0x3f;

/// One block descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BlockDescriptor {
    /// Density code: 5Ch LTO-7, 5Eh LTO-8, 60h LTO-9, …; 7Fh keeps it as it is.
    pub density: u8,
    /// Number of blocks (24 bits), 0 for the whole medium.
    pub blocks: u32,
    /// Block length in bytes (24 bits), 0 for variable.
    pub block_length: u32,
}

/// Mode parameters as MODE SENSE brings and MODE SELECT sends them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mode {
    /// Medium type, the vendor's own codes.
    pub medium_type: u8,
    /// The medium is write protected (WP); reserved in MODE SELECT.
    pub write_protected: bool,
    /// 0 unbuffered, 1 buffered: a write is answered when the data are in the buffer.
    pub buffered_mode: u8,
    /// Speed, 0 for the default.
    pub speed: u8,
    /// The first block descriptor, if there is one.
    pub block: Option<BlockDescriptor>,
    /// The pages, as they came, one behind the other.
    pub pages: Vec<u8>,
}

impl Mode {
    /// Reads the answer of MODE SENSE(6).
    pub fn parse_6(bytes: &[u8]) -> Result<Self, Error> {
        let bytes = at_least("mode data", bytes, 4)?;
        Self::parse(
            bytes,
            1 + usize::from(bytes[0]),
            [bytes[1], bytes[2]],
            4,
            usize::from(bytes[3]),
        )
    }

    /// Reads the answer of MODE SENSE(10).
    pub fn parse_10(bytes: &[u8]) -> Result<Self, Error> {
        let bytes = at_least("mode data", bytes, 8)?;
        Self::parse(
            bytes,
            2 + number(&bytes[0..2]) as usize,
            [bytes[2], bytes[3]],
            8,
            number(&bytes[6..8]) as usize,
        )
    }

    /// Reads the parameter list of MODE SELECT(6), whose mode data length is reserved.
    pub fn parse_select_6(bytes: &[u8]) -> Result<Self, Error> {
        let bytes = at_least("mode data", bytes, 4)?;
        Self::parse(
            bytes,
            bytes.len(),
            [bytes[1], bytes[2]],
            4,
            usize::from(bytes[3]),
        )
    }

    /// Reads the parameter list of MODE SELECT(10), whose mode data length is reserved.
    pub fn parse_select_10(bytes: &[u8]) -> Result<Self, Error> {
        let bytes = at_least("mode data", bytes, 8)?;
        Self::parse(
            bytes,
            bytes.len(),
            [bytes[2], bytes[3]],
            8,
            number(&bytes[6..8]) as usize,
        )
    }

    fn parse(
        bytes: &[u8],
        stated: usize,
        [medium_type, device]: [u8; 2],
        header: usize,
        descriptors: usize,
    ) -> Result<Self, Error> {
        // An answer longer than the allocation length is cut by the standard: what came is what counts.
        let end = stated.min(bytes.len());
        let pages = header + descriptors;
        if pages > end {
            return Err(Error::Short {
                page: "mode data",
                length: end,
                least: pages,
            });
        }
        let block = (descriptors >= 8).then(|| {
            let one = &bytes[header..header + 8];
            BlockDescriptor {
                density: one[0],
                blocks: number(&one[1..4]) as u32,
                block_length: number(&one[5..8]) as u32,
            }
        });
        Ok(Self {
            medium_type,
            write_protected: device & 0x80 != 0,
            buffered_mode: (device >> 4) & 0x07,
            speed: device & 0x0f,
            block,
            pages: bytes[pages..end].to_vec(),
        })
    }

    fn device_specific(&self) -> u8 {
        (u8::from(self.write_protected) << 7)
            | ((self.buffered_mode & 0x07) << 4)
            | (self.speed & 0x0f)
    }

    fn body(&self) -> Vec<u8> {
        let mut body = Vec::new();
        if let Some(block) = self.block {
            body.push(block.density);
            body.extend(&block.blocks.to_be_bytes()[1..]);
            body.push(0);
            body.extend(&block.block_length.to_be_bytes()[1..]);
        }
        body.extend(&self.pages);
        body
    }

    fn descriptors(&self) -> u8 {
        if self.block.is_some() { 8 } else { 0 }
    }

    /// Builds the answer of MODE SENSE(6). Pages that don't fit its 256 bytes are cut.
    pub fn build_6(&self) -> Vec<u8> {
        let mut bytes = vec![
            0,
            self.medium_type,
            self.device_specific(),
            self.descriptors(),
        ];
        bytes.extend(self.body());
        bytes.truncate(256);
        bytes[0] = (bytes.len() - 1) as u8;
        bytes
    }

    /// Builds the answer of MODE SENSE(10). Pages beyond 65,537 bytes are cut.
    pub fn build_10(&self) -> Vec<u8> {
        let mut bytes = vec![0; 8];
        bytes[2] = self.medium_type;
        bytes[3] = self.device_specific();
        bytes[7] = self.descriptors();
        bytes.extend(self.body());
        bytes.truncate(0x1_0001);
        let length = ((bytes.len() - 2) as u16).to_be_bytes();
        bytes[0..2].copy_from_slice(&length);
        bytes
    }

    /// Builds the parameter list of MODE SELECT(6): data length and write protection zero, as it demands.
    pub fn build_select_6(&self) -> Vec<u8> {
        let mut bytes = self.build_6();
        bytes[0] = 0;
        bytes[2] &= 0x7f;
        bytes
    }

    /// Builds the parameter list of MODE SELECT(10).
    pub fn build_select_10(&self) -> Vec<u8> {
        let mut bytes = self.build_10();
        bytes[0..2].fill(0);
        bytes[3] &= 0x7f;
        bytes
    }

    /// The page with this code and subpage (0 for a page without), its header included.
    pub fn page(&self, code: u8, subpage: u8) -> Option<&[u8]> {
        let mut rest = self.pages.as_slice();
        loop {
            let head = *rest.first()?;
            let (sub, header, length) = if head & 0x40 == 0 {
                (0, 2, usize::from(*rest.get(1)?))
            } else {
                (*rest.get(1)?, 4, number(rest.get(2..4)?) as usize)
            };
            let page = rest.get(..header + length)?;
            if (head & 0x3f, sub) == (code, subpage) {
                return Some(page);
            }
            rest = &rest[header + length..];
        }
    }
}
