//! The tar stream of an archive as a reader, which ends wherever bytes are missing, and finds the next member behind.

use std::cell::RefCell;
use std::io::{self, Read};
use std::rc::Rc;
use std::sync::mpsc::Receiver;

use taf_format::segment::Opened;

use super::Error;
use super::ledger::Ledger;
use super::pieces::Piece;

/// See the module. Every segment's records go to the ledger when its first byte is near.
pub struct Stream {
    pieces: Receiver<Piece>,
    ledger: Rc<RefCell<Ledger>>,
    current: Option<Box<Opened>>,
    /// Bytes of the current segment that were read.
    read: usize,
    /// The segment behind a loss.
    behind: Option<Box<Opened>>,
    failed: Rc<RefCell<Option<Error>>>,
    exhausted: bool,
}

impl Stream {
    /// Reads the pieces that come.
    pub fn new(pieces: Receiver<Piece>, ledger: Rc<RefCell<Ledger>>) -> Self {
        Self {
            pieces,
            ledger,
            current: None,
            read: 0,
            behind: None,
            failed: Rc::default(),
            exhausted: false,
        }
    }

    /// Why nothing more can be read at all.
    pub fn failure(&self) -> Rc<RefCell<Option<Error>>> {
        Rc::clone(&self.failed)
    }

    /// Goes to the first member that begins in or behind the next segment, and gives its offset; `None` if there is none.
    /// What is passed over is lost.
    pub fn resume(&mut self, from: u64) -> Option<u64> {
        loop {
            // What is left of the current segment can't be understood any more.
            self.current = None;
            self.read = 0;
            let segment = match self.behind.take() {
                Some(segment) => segment,
                None => self.receive()?,
            };
            let begins = segment.header.tar_offset;
            let entry = segment.header.next_entry;
            self.current = Some(segment);
            let Some(entry) = entry else { continue };
            if self.skip(entry - begins) {
                if entry > from {
                    self.ledger
                        .borrow_mut()
                        .lose(from..entry, "what comes before it is lost");
                }
                return Some(entry);
            }
        }
    }

    /// Hands the records of all that is left to the ledger.
    pub fn drain(&mut self) {
        while self.behind.take().or_else(|| self.receive()).is_some() {}
    }

    fn skip(&mut self, mut bytes: u64) -> bool {
        let mut buffer = [0; 16 << 10];
        while bytes > 0 {
            let wanted = buffer
                .len()
                .min(usize::try_from(bytes).unwrap_or(usize::MAX));
            match self.read(&mut buffer[..wanted]) {
                Ok(0) | Err(_) => return false,
                Ok(read) => bytes -= read as u64,
            }
        }
        true
    }

    /// The next segment, whatever lies before it.
    fn receive(&mut self) -> Option<Box<Opened>> {
        while !self.exhausted {
            match self.pieces.recv() {
                Ok(Piece::Segment(segment)) => {
                    self.ledger.borrow_mut().segment(&segment);
                    return Some(segment);
                }
                Ok(Piece::Lost(range, reason)) => self.ledger.borrow_mut().lose(range, &reason),
                Ok(Piece::Failed(error)) => {
                    *self.failed.borrow_mut() = Some(error);
                    self.exhausted = true;
                }
                Err(_) => self.exhausted = true,
            }
        }
        None
    }
}

impl Read for Stream {
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
            let end = self
                .current
                .as_ref()
                .map_or(0, |current| current.header.tar_end());
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
