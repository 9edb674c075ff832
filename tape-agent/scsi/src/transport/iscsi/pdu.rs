//! The bytes on the wire (RFC 7143 section 11): what every PDU begins with, and the stream that carries PDUs.
//!
//! Both sides use it: our initiator, and the emulator's target. A length is checked before anything is allocated for it.

use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Bytes of a basic header segment.
pub const HEADER: usize = 48;
/// A tag that names no task.
pub const NO_TAG: u32 = 0xffff_ffff;
/// A peer that stops in the middle of a PDU for so long is gone, as is one that takes none.
const STALL: Duration = Duration::from_mins(1);

/// Operation codes (11.2.1.2). Those of the initiator are below 20h.
pub mod op {
    #![allow(missing_docs)] // the standard's names
    pub const NOP_OUT: u8 = 0x00;
    pub const COMMAND: u8 = 0x01;
    pub const TASK_REQUEST: u8 = 0x02;
    pub const LOGIN_REQUEST: u8 = 0x03;
    pub const TEXT_REQUEST: u8 = 0x04;
    pub const DATA_OUT: u8 = 0x05;
    pub const LOGOUT_REQUEST: u8 = 0x06;
    pub const SNACK: u8 = 0x10;
    pub const NOP_IN: u8 = 0x20;
    pub const RESPONSE: u8 = 0x21;
    pub const TASK_RESPONSE: u8 = 0x22;
    pub const LOGIN_RESPONSE: u8 = 0x23;
    pub const TEXT_RESPONSE: u8 = 0x24;
    pub const DATA_IN: u8 = 0x25;
    pub const LOGOUT_RESPONSE: u8 = 0x26;
    pub const R2T: u8 = 0x31;
    pub const ASYNC: u8 = 0x32;
    pub const REJECT: u8 = 0x3f;
}

/// Flags in byte 1.
pub mod flag {
    /// The last of a sequence; of a login: on to the next stage.
    pub const FINAL: u8 = 0x80;
    /// A text goes on in the next PDU; of a command: it reads.
    pub const CONTINUE: u8 = 0x40;
    /// The command reads.
    pub const READ: u8 = 0x40;
    /// The command writes.
    pub const WRITE: u8 = 0x20;
    /// More data than expected.
    pub const OVERFLOW: u8 = 0x04;
    /// Fewer data than expected.
    pub const UNDERFLOW: u8 = 0x02;
    /// Data-In that brings the status too.
    pub const STATUS: u8 = 0x01;
}

/// Where the fields of four bytes are.
pub mod at {
    /// Initiator task tag.
    pub const TASK_TAG: usize = 16;
    /// Target transfer tag.
    pub const TRANSFER_TAG: usize = 20;
    /// Of a command: how many bytes its data phase has at most.
    pub const EXPECTED_LENGTH: usize = 20;
    /// Of a task management request: the task that it is about.
    pub const REFERENCED_TASK: usize = 20;
    /// Of requests.
    pub const CMD_SN: usize = 24;
    /// Of requests.
    pub const EXP_STAT_SN: usize = 28;
    /// Of answers.
    pub const STAT_SN: usize = 24;
    /// Of answers.
    pub const EXP_CMD_SN: usize = 28;
    /// Of answers.
    pub const MAX_CMD_SN: usize = 32;
    /// Of data and R2T.
    pub const DATA_SN: usize = 36;
    /// Of data and R2T.
    pub const BUFFER_OFFSET: usize = 40;
    /// Of R2T: how many bytes the target wants.
    pub const DESIRED_LENGTH: usize = 44;
    /// Of responses and Data-In with status.
    pub const RESIDUAL: usize = 44;
}

/// A basic header segment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Header(pub [u8; HEADER]);

impl Header {
    /// One with the final flag and nothing else.
    pub fn new(operation: u8) -> Self {
        let mut bytes = [0; HEADER];
        bytes[0] = operation;
        bytes[1] = flag::FINAL;
        Self(bytes)
    }

    /// The same, to be taken out of the order of commands.
    #[must_use]
    pub fn immediate(mut self) -> Self {
        self.0[0] |= 0x40;
        self
    }

    /// Whether it is outside the order of commands.
    pub fn is_immediate(&self) -> bool {
        self.0[0] & 0x40 != 0
    }

    /// The operation code, see [`op`].
    pub fn operation(&self) -> u8 {
        self.0[0] & 0x3f
    }

    /// Whether byte 1 has one of these flags.
    pub fn has(&self, flags: u8) -> bool {
        self.0[1] & flags != 0
    }

    /// With byte 1 as given.
    #[must_use]
    pub fn flags(self, flags: u8) -> Self {
        self.byte(1, flags)
    }

    /// With this byte.
    #[must_use]
    pub fn byte(mut self, offset: usize, value: u8) -> Self {
        self.0[offset] = value;
        self
    }

    /// With this field of four bytes, see [`at`].
    #[must_use]
    pub fn with(mut self, offset: usize, value: u32) -> Self {
        self.0[offset..offset + 4].copy_from_slice(&value.to_be_bytes());
        self
    }

    /// With these bytes.
    #[must_use]
    pub fn bytes(mut self, offset: usize, value: &[u8]) -> Self {
        self.0[offset..offset + value.len()].copy_from_slice(value);
        self
    }

    /// With this logical unit number.
    #[must_use]
    pub fn lun(self, lun: u16) -> Self {
        let [high, low] = lun.to_be_bytes();
        // Peripheral device addressing as far as it goes, flat space addressing beyond (SAM-5 4.7.7).
        self.bytes(8, &[if high == 0 { 0 } else { 0x40 | high }, low])
    }

    /// The logical unit number; `None` if it is in no form that a flat target has.
    pub fn to_lun(&self) -> Option<u16> {
        let field = &self.0[8..16];
        let number = u16::from_be_bytes([field[0] & 0x3f, field[1]]);
        let flat = field[2..].iter().all(|byte| *byte == 0);
        let known = match field[0] >> 6 {
            0 => field[0] == 0,
            form => form == 1,
        };
        (flat && known).then_some(number)
    }

    /// A field of four bytes, see [`at`].
    pub fn word(&self, offset: usize) -> u32 {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.0[offset..offset + 4]);
        u32::from_be_bytes(bytes)
    }

    /// Bytes of the data segment, without padding.
    pub fn data_length(&self) -> usize {
        usize::from(self.0[5]) << 16 | usize::from(self.0[6]) << 8 | usize::from(self.0[7])
    }

    /// Bytes of additional header segments.
    pub fn additional_length(&self) -> usize {
        usize::from(self.0[4]) * 4
    }
}

impl std::fmt::Debug for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// Why the stream is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The system says no.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The peer closed the connection.
    #[error("the other side closed the connection")]
    Closed,
    /// The peer stopped in the middle of a PDU, or takes none.
    #[error("the other side stopped in the middle of a message")]
    Stalled,
    /// A checksum does not fit.
    #[error("a message came damaged: the digest of its {0} is wrong")]
    Digest(&'static str),
    /// More than was agreed on.
    #[error("a message of {length} bytes came, at most {limit} were agreed on")]
    TooLong {
        /// Its length.
        length: usize,
        /// The limit.
        limit: usize,
    },
}

/// Which parts of a PDU have a checksum (CRC32C) behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Digests {
    /// The header.
    pub header: bool,
    /// The data segment.
    pub data: bool,
}

fn padding(length: usize) -> usize {
    length.wrapping_neg() % 4
}

/// The side of a connection that sends.
#[derive(Debug)]
pub struct Sender {
    stream: TcpStream,
    /// As agreed on.
    pub digests: Digests,
}

impl Sender {
    /// Sends into this stream, without digests at first.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(STALL))?;
        Ok(Self {
            stream,
            digests: Digests::default(),
        })
    }

    /// The stream itself.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends one PDU; its lengths are set here. The data are not copied.
    pub fn send(&mut self, header: Header, data: &[u8]) -> Result<(), Fault> {
        let mut head = [0; HEADER + 4];
        head[..HEADER].copy_from_slice(&header.0);
        head[4] = 0;
        head[5..8].copy_from_slice(&(data.len() as u32).to_be_bytes()[1..]);
        let mut head_length = HEADER;
        if self.digests.header {
            let digest = crc32c::crc32c(&head[..HEADER]);
            head[HEADER..].copy_from_slice(&digest.to_le_bytes());
            head_length += 4;
        }
        let mut tail = [0; 7];
        let mut tail_length = padding(data.len());
        if self.digests.data && !data.is_empty() {
            let digest = crc32c::crc32c_append(crc32c::crc32c(data), &tail[..tail_length]);
            tail[tail_length..tail_length + 4].copy_from_slice(&digest.to_le_bytes());
            tail_length += 4;
        }
        let mut slices = [
            IoSlice::new(&head[..head_length]),
            IoSlice::new(data),
            IoSlice::new(&tail[..tail_length]),
        ];
        let mut rest = &mut slices[..];
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            match self.stream.write_vectored(rest) {
                Ok(0) => return Err(Fault::Closed),
                Ok(sent) => IoSlice::advance_slices(&mut rest, sent),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if waited(&error) => return Err(Fault::Stalled),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn waited(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// The side of a connection that receives.
#[derive(Debug)]
pub struct Receiver {
    stream: TcpStream,
    /// As agreed on.
    pub digests: Digests,
    /// The longest data segment that is taken.
    pub limit: usize,
    /// What the stream's read timeout is.
    patience: Option<Duration>,
    /// Bytes of the last PDU's data segment that nobody has taken yet.
    pending: usize,
    last: Header,
}

impl Receiver {
    /// Receives from this stream, without digests at first.
    pub fn new(stream: TcpStream, limit: usize) -> Self {
        Self {
            stream,
            digests: Digests::default(),
            limit,
            patience: None,
            pending: 0,
            last: Header([0; HEADER]),
        }
    }

    /// The header that came last.
    pub fn last(&self) -> Header {
        self.last
    }

    /// The header of the next PDU; `None` if none begins within `patience`. Data of the one before that nobody took are
    /// thrown away.
    pub fn next(&mut self, patience: Duration) -> Result<Option<Header>, Fault> {
        if self.pending > 0 {
            self.data()?;
        }
        // Zero would mean to wait for ever.
        let patience = patience.max(Duration::from_millis(1));
        if self.patience != Some(patience) {
            self.stream.set_read_timeout(Some(patience))?;
            self.patience = Some(patience);
        }
        let mut head = [0; HEADER + 4];
        let length = HEADER + if self.digests.header { 4 } else { 0 };
        let first = loop {
            match self.stream.read(&mut head[..length]) {
                Ok(0) => return Err(Fault::Closed),
                Ok(count) => break count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if waited(&error) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        };
        let mut basic = [0; HEADER];
        if first < HEADER {
            self.fill(&mut head[first..HEADER])?;
        }
        basic.copy_from_slice(&head[..HEADER]);
        let header = Header(basic);
        let additional = header.additional_length();
        if additional == 0 {
            self.fill(&mut head[first.max(HEADER)..length])?;
            if self.digests.header {
                check("header", crc32c::crc32c(&basic), &head[HEADER..length])?;
            }
        } else {
            self.additional(&basic, &head[HEADER..first.max(HEADER)], additional)?;
        }
        let length = header.data_length();
        if length > self.limit {
            let limit = self.limit;
            return Err(Fault::TooLong { length, limit });
        }
        self.pending = length;
        self.last = header;
        Ok(Some(header))
    }

    /// Takes additional header segments, of which nothing is used here; `begun` are bytes of them that were read already.
    fn additional(&mut self, basic: &[u8], begun: &[u8], length: usize) -> Result<(), Fault> {
        let mut rest = vec![0; length + if self.digests.header { 4 } else { 0 }];
        rest[..begun.len()].copy_from_slice(begun);
        self.fill(&mut rest[begun.len()..])?;
        if self.digests.header {
            let (segments, digest) = rest.split_at(length);
            let own = crc32c::crc32c_append(crc32c::crc32c(basic), segments);
            check("header", own, digest)?;
        }
        Ok(())
    }

    /// The data segment of the PDU whose header came last.
    pub fn data(&mut self) -> Result<Vec<u8>, Fault> {
        let mut data = vec![0; self.pending];
        self.data_into(&mut data)?;
        Ok(data)
    }

    /// The same into `buffer`, which must be of just its length.
    pub fn data_into(&mut self, buffer: &mut [u8]) -> Result<(), Fault> {
        assert_eq!(buffer.len(), self.pending, "the header says the length");
        self.pending = 0;
        if buffer.is_empty() {
            return Ok(());
        }
        self.fill(buffer)?;
        let pad = padding(buffer.len());
        let mut tail = [0; 7];
        let length = pad + if self.digests.data { 4 } else { 0 };
        self.fill(&mut tail[..length])?;
        if self.digests.data {
            let own = crc32c::crc32c_append(crc32c::crc32c(buffer), &tail[..pad]);
            check("data", own, &tail[pad..length])?;
        }
        Ok(())
    }

    fn fill(&mut self, mut buffer: &mut [u8]) -> Result<(), Fault> {
        let begun = Instant::now();
        while !buffer.is_empty() {
            match self.stream.read(buffer) {
                Ok(0) => return Err(Fault::Closed),
                Ok(count) => buffer = &mut buffer[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if waited(&error) => {
                    if begun.elapsed() > STALL {
                        return Err(Fault::Stalled);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn check(what: &'static str, own: u32, digest: &[u8]) -> Result<(), Fault> {
    if own.to_le_bytes() == digest {
        Ok(())
    } else {
        Err(Fault::Digest(what))
    }
}

#[cfg(test)]
mod tests;
