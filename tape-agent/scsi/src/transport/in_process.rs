//! A path to a target in the same process, for tests and embedded devices.
//!
//! A timeout counts only when a command hangs or takes its time: the target's own work is not interrupted. As on
//! a socket, a path whose command had no answer stays lost.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::{Completion, Data, Error, TRANSFER_MAX, Transport};
use crate::sense::LENGTH_MAX;
use crate::target::{Delivery, Nexus, Response, Target};

/// A path to a target that others may hold as well.
pub struct InProcess<T: Target + ?Sized> {
    name: String,
    target: Arc<Mutex<T>>,
    largest: usize,
    nexus: Nexus,
    /// The outcome of a command is unknown.
    lost: bool,
}

impl<T: Target + ?Sized> InProcess<T> {
    /// A path to `target`, called `name` in messages; an initiator of its own.
    pub fn new(name: impl Into<String>, target: Arc<Mutex<T>>) -> Self {
        Self {
            name: name.into(),
            target,
            largest: TRANSFER_MAX,
            nexus: Nexus::new(),
            lost: false,
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

    /// A target that panicked in another thread is like a device that hung up in one command: it may go on.
    fn target(&self) -> MutexGuard<'_, T> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(
        &self,
        cdb: &[u8],
        out: &[u8],
        capacity: usize,
        timeout: Duration,
    ) -> Result<Response, Error> {
        let deadline = Instant::now() + timeout;
        loop {
            // The target is let go of before anything waits.
            let delivered = self.target().deliver(self.nexus, cdb, out, capacity);
            match delivered {
                Delivery::Answer(response) => return Ok(response),
                Delivery::After { time, answer } => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    thread::sleep(time.min(left));
                    if time > left {
                        return Err(self.late(timeout));
                    }
                    if let Some(response) = answer {
                        return Ok(response);
                    }
                }
                Delivery::Disconnect => return Err(self.broken("it closed the connection")),
                Delivery::Hang { gate, answer } => {
                    if !gate.wait(deadline.saturating_duration_since(Instant::now())) {
                        return Err(self.late(timeout));
                    }
                    if let Some(response) = answer {
                        return Ok(response);
                    }
                }
            }
        }
    }

    fn late(&self, timeout: Duration) -> Error {
        Error::Timeout {
            device: self.name.clone(),
            seconds: timeout.as_secs(),
        }
    }

    fn broken(&self, reason: &str) -> Error {
        Error::Lost {
            device: self.name.clone(),
            reason: reason.to_owned(),
        }
    }
}

impl<T: Target + ?Sized> Transport for InProcess<T> {
    fn execute(
        &mut self,
        cdb: &[u8],
        data: Data<'_>,
        timeout: Duration,
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
        if self.lost {
            return Err(
                self.broken("an earlier command's outcome is unknown; open the device again")
            );
        }
        let outcome = match &data {
            Data::None => self.answer(cdb, &[], 0, timeout),
            Data::Out(bytes) => self.answer(cdb, bytes, 0, timeout),
            Data::In(buffer) => self.answer(cdb, &[], buffer.len(), timeout),
        };
        let response = match outcome {
            Ok(response) => response,
            Err(error) => {
                self.lost = true;
                self.target().disconnected(self.nexus);
                return Err(error);
            }
        };
        let transferred = match data {
            Data::None => 0,
            Data::Out(bytes) => bytes.len(),
            Data::In(buffer) => {
                let count = response.data_in.len().min(buffer.len());
                buffer[..count].copy_from_slice(&response.data_in[..count]);
                count
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
