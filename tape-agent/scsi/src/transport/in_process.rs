//! A path to a target in the same process, for tests and embedded devices.
//!
//! It has no timeouts: a target answers when it answers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Completion, Data, Error, TRANSFER_MAX, Transport};
use crate::sense::LENGTH_MAX;
use crate::target::Target;

/// A path to a target that others may hold as well.
pub struct InProcess<T: Target + ?Sized> {
    name: String,
    target: Arc<Mutex<T>>,
    largest: usize,
}

impl<T: Target + ?Sized> InProcess<T> {
    /// A path to `target`, called `name` in messages.
    pub fn new(name: impl Into<String>, target: Arc<Mutex<T>>) -> Self {
        Self {
            name: name.into(),
            target,
            largest: TRANSFER_MAX,
        }
    }

    /// The same, carrying at most `largest` bytes in one transfer, as some adapters do.
    #[must_use]
    pub fn with_max_transfer(self, largest: usize) -> Self {
        Self {
            largest: largest.min(TRANSFER_MAX),
            ..self
        }
    }
}

impl<T: Target + ?Sized> Transport for InProcess<T> {
    fn execute(
        &mut self,
        cdb: &[u8],
        data: Data<'_>,
        _timeout: Duration,
    ) -> Result<Completion, Error> {
        let length = match &data {
            Data::None => 0,
            Data::In(buffer) => buffer.len(),
            Data::Out(bytes) => bytes.len(),
        };
        if length > self.largest {
            return Err(Error::TooLarge {
                device: self.name.clone(),
                length,
                largest: self.largest,
            });
        }
        // A target that panicked in another thread is like a device that hung up in one command: it may go on.
        let mut target = self.target.lock().unwrap_or_else(PoisonError::into_inner);
        let (response, transferred) = match data {
            Data::None => (target.execute(cdb, &[], 0), 0),
            Data::Out(bytes) => (target.execute(cdb, bytes, 0), bytes.len()),
            Data::In(buffer) => {
                let response = target.execute(cdb, &[], buffer.len());
                let count = response.data_in.len().min(buffer.len());
                buffer[..count].copy_from_slice(&response.data_in[..count]);
                (response, count)
            }
        };
        let mut sense = response.sense;
        sense.truncate(LENGTH_MAX);
        Ok(Completion {
            status: response.status,
            sense,
            transferred,
        })
    }

    fn max_transfer(&self) -> usize {
        self.largest
    }

    fn name(&self) -> &str {
        &self.name
    }
}
