//! Whose turn it is to write a part, of several sources on one volume.
//!
//! Pure. Who has a part [asks](Turns::ask), and gets the turn behind those who asked before. A turn is one part, so
//! between two turns of a source each other one that is ready has one: nobody starves, however small or slow the others are.
//! When the drive may begin a part is the [gate's](crate::ring::gate) matter; this only says who is next.

use std::collections::{BTreeSet, VecDeque};

use crate::ring::gate::Company;

/// The seats at a drive.
#[derive(Debug, Default)]
pub struct Turns {
    seats: BTreeSet<u64>,
    /// Who asked, in order.
    waiting: VecDeque<u64>,
    holder: Option<u64>,
}

impl Turns {
    /// A source takes a seat.
    pub fn sit(&mut self, seat: u64) {
        self.seats.insert(seat);
    }

    /// It leaves, with its turn and its place in the row.
    pub fn rise(&mut self, seat: u64) {
        self.waiting.retain(|waiting| *waiting != seat);
        self.done(seat);
        self.seats.remove(&seat);
    }

    /// It has a part. Asking again changes nothing.
    pub fn ask(&mut self, seat: u64) {
        if self.seats.contains(&seat) && self.holder != Some(seat) && !self.waiting.contains(&seat)
        {
            self.waiting.push_back(seat);
        }
    }

    /// Takes the turn if it is this one's.
    pub fn take(&mut self, seat: u64) -> bool {
        if self.holder.is_none() && self.waiting.front() == Some(&seat) {
            self.waiting.pop_front();
            self.holder = Some(seat);
        }
        self.holder == Some(seat)
    }

    /// Its part has ended.
    pub fn done(&mut self, seat: u64) {
        if self.holder == Some(seat) {
            self.holder = None;
        }
    }

    /// Who else there is for this one.
    pub fn company(&self, seat: u64) -> Company {
        if self.seats.iter().all(|other| *other == seat) {
            Company::Alone
        } else if self.holder == Some(seat) && !self.waiting.is_empty() {
            Company::Awaited
        } else {
            Company::Others
        }
    }
}

#[cfg(test)]
mod tests;
