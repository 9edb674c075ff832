//! The segments that are read of an archive, on their way into its tar stream: their records go to the ledger when the first
//! byte of a segment is near, and what is lost between them too.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::mpsc::Receiver;

use taf_format::segment::{self, Opened};

use super::Error;
use super::ledger::Ledger;
use super::pieces::Piece;

/// The tar stream of an archive.
pub type Stream = segment::Stream<Pieces>;

/// See the module.
pub struct Pieces {
    coming: Receiver<Piece>,
    ledger: Rc<RefCell<Ledger>>,
    failed: Rc<RefCell<Option<Error>>>,
}

impl Pieces {
    /// The pieces that come.
    pub fn new(pieces: Receiver<Piece>, ledger: Rc<RefCell<Ledger>>) -> Self {
        Self {
            coming: pieces,
            ledger,
            failed: Rc::default(),
        }
    }

    /// Why nothing more can be read at all.
    pub fn failure(&self) -> Rc<RefCell<Option<Error>>> {
        Rc::clone(&self.failed)
    }
}

impl segment::Supply for Pieces {
    fn next(&mut self) -> Option<Box<Opened>> {
        loop {
            match self.coming.recv() {
                Ok(Piece::Segment(segment)) => {
                    self.ledger.borrow_mut().segment(&segment);
                    return Some(segment);
                }
                Ok(Piece::Lost(range, reason)) => self.ledger.borrow_mut().lose(range, &reason),
                Ok(Piece::Failed(error)) => {
                    *self.failed.borrow_mut() = Some(error);
                    return None;
                }
                Err(_) => return None,
            }
        }
    }
}
