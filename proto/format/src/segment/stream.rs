//! The tar stream of opened segments as a reader: it ends wherever bytes are missing, and finds the next entry behind.

use std::io::{self, Read};

use super::Opened;

/// Gives opened segments in order. What is lost between them is its own matter; the reader sees it by their offsets.
pub trait Supply {
    /// The next segment, whatever lies before it; `None` when there are no more.
    fn next(&mut self) -> Option<Box<Opened>>;
}

/// See the module.
pub struct Stream<S> {
    supply: S,
    current: Option<Box<Opened>>,
    /// Bytes of the current segment that were read.
    read: usize,
    /// The segment behind a loss.
    behind: Option<Box<Opened>>,
    exhausted: bool,
}

impl<S: Supply> Stream<S> {
    /// Reads from the stream's beginning: if the first segment is not there, that is a loss already.
    pub fn new(supply: S) -> Self {
        Self {
            supply,
            current: None,
            read: 0,
            behind: None,
            exhausted: false,
        }
    }

    /// Where the segments come from.
    pub fn supply(&self) -> &S {
        &self.supply
    }

    /// Goes to the first entry that begins in or behind the next segment, and gives its offset; `None` if there is none.
    /// What is left of the current segment is passed over.
    pub fn resume(&mut self) -> Option<u64> {
        loop {
            self.current = None;
            self.read = 0;
            let segment = self.behind.take().or_else(|| self.receive())?;
            let (begins, entry) = (segment.header.tar_offset, segment.header.next_entry);
            self.current = Some(segment);
            if let Some(entry) = entry
                && self.skip(entry - begins)
            {
                return Some(entry);
            }
        }
    }

    /// Takes all that is left from the supply.
    pub fn drain(&mut self) {
        while self.behind.take().or_else(|| self.receive()).is_some() {}
    }

    fn skip(&mut self, mut bytes: u64) -> bool {
        let mut buffer = [0; 16 << 10];
        while bytes > 0 {
            let wanted = bytes.min(buffer.len() as u64) as usize;
            match self.read(&mut buffer[..wanted]) {
                Ok(0) | Err(_) => return false,
                Ok(read) => bytes -= read as u64,
            }
        }
        true
    }

    /// A supply that has ended is not asked again.
    fn receive(&mut self) -> Option<Box<Opened>> {
        if self.exhausted {
            return None;
        }
        let next = self.supply.next();
        self.exhausted = next.is_none();
        next
    }
}

impl<S: Supply> Read for Stream<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.behind.is_some() || buffer.is_empty() {
                return Ok(0);
            }
            if let Some(current) = &self.current
                && self.read < current.tar.len()
            {
                let rest = &current.tar[self.read..];
                let count = rest.len().min(buffer.len());
                buffer[..count].copy_from_slice(&rest[..count]);
                self.read += count;
                return Ok(count);
            }
            let current = self.current.as_ref();
            let end = current.map_or(0, |current| current.header.tar_end());
            let Some(next) = self.receive() else {
                return Ok(0);
            };
            if next.header.tar_offset == end {
                self.current = Some(next);
                self.read = 0;
            } else {
                self.behind = Some(next);
            }
        }
    }
}
