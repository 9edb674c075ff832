//! The tar bytes of an item, read from segments as they arrive.

use std::collections::VecDeque;
use std::io::{self, Read};

use super::receive::Delivery;
use crate::ordered::Drain;

/// Why bytes did not come.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// The tape does not give them.
    #[error("{0}")]
    Damaged(String),
    /// Nothing comes any more.
    #[error("the transfer ended")]
    Ended,
    /// The entry is longer than the catalog says.
    #[error("the entry does not end where the catalog says")]
    Overrun,
}

/// Segments that have arrived and may still be needed: those of the current item.
#[derive(Debug)]
pub struct Window {
    drain: Drain<Delivery>,
    held: VecDeque<Delivery>,
    /// No segment before this number is held any more.
    next: u64,
    ended: bool,
}

impl Window {
    /// Nothing has arrived.
    pub fn new(drain: Drain<Delivery>) -> Self {
        Self {
            drain,
            held: VecDeque::new(),
            next: 0,
            ended: false,
        }
    }

    /// Whether the transfer ended before everything came.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// The tar bytes from `tar_offset` in segment `first` to the end of segment `last`.
    pub fn item(&mut self, first: u64, last: u64, tar_offset: u64) -> ItemReader<'_> {
        ItemReader {
            window: self,
            number: first,
            last,
            tar_offset,
        }
    }

    /// Takes everything up to segment `number` from the queue and keeps only that one, which the next item may share.
    pub fn pass(&mut self, number: u64) {
        while self.next <= number && self.pull() {
            self.drop_before(number);
        }
        self.drop_before(number);
    }

    fn drop_before(&mut self, number: u64) {
        while self.held.front().is_some_and(|held| held.number < number) {
            self.held.pop_front();
        }
    }

    fn pull(&mut self) -> bool {
        let Some(delivery) = self.drain.next_blocking() else {
            self.ended = true;
            return false;
        };
        self.next = delivery.number + 1;
        self.held.push_back(delivery);
        true
    }

    fn get(&mut self, number: u64) -> Result<&Delivery, Lost> {
        self.drop_before(number);
        while self.next <= number {
            if !self.pull() {
                return Err(Lost::Ended);
            }
            self.drop_before(number);
        }
        let found = self.held.front().filter(|held| held.number == number);
        found.ok_or(Lost::Ended)
    }
}

/// See [`Window::item`].
#[derive(Debug)]
pub struct ItemReader<'a> {
    window: &'a mut Window,
    number: u64,
    last: u64,
    tar_offset: u64,
}

impl Read for ItemReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if self.number > self.last {
                return Err(io::Error::other(Lost::Overrun));
            }
            let held = self.window.get(self.number).map_err(io::Error::other)?;
            let tar = match &held.tar {
                Ok(tar) => tar,
                Err(reason) => return Err(io::Error::other(Lost::Damaged(reason.clone()))),
            };
            let at = self
                .tar_offset
                .checked_sub(held.tar_offset)
                .and_then(|at| usize::try_from(at).ok())
                .ok_or_else(|| io::Error::other(Lost::Overrun))?;
            if at < tar.len() {
                let read = (&tar[at..]).read(buffer)?;
                self.tar_offset += read as u64;
                return Ok(read);
            }
            self.number += 1;
        }
    }
}
