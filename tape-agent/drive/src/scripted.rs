//! A transport that plays a script: it expects commands in order and gives the answers that stand there.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use taf_scsi::cdb::opcode;
use taf_scsi::page::inquiry::Inquiry;
use taf_scsi::page::vpd;
use taf_scsi::sense::Sense;
use taf_scsi::transport::{Completion, Data, Error, Transport};

/// One answer.
pub(crate) struct Answer {
    opcode: u8,
    status: u8,
    sense: Vec<u8>,
    data: Vec<u8>,
    transferred: Option<usize>,
    error: Option<Error>,
}

pub(crate) fn good(opcode: u8) -> Answer {
    Answer {
        opcode,
        status: 0,
        sense: Vec::new(),
        data: Vec::new(),
        transferred: None,
        error: None,
    }
}

pub(crate) fn check(opcode: u8, sense: Sense) -> Answer {
    Answer {
        status: 2,
        sense: sense.to_fixed(),
        ..good(opcode)
    }
}

pub(crate) fn data(opcode: u8, data: Vec<u8>) -> Answer {
    Answer {
        data,
        ..good(opcode)
    }
}

pub(crate) fn status(opcode: u8, status: u8) -> Answer {
    Answer {
        status,
        ..good(opcode)
    }
}

pub(crate) fn broken(opcode: u8, error: Error) -> Answer {
    Answer {
        error: Some(error),
        ..good(opcode)
    }
}

impl Answer {
    /// Brings these bytes as well.
    pub(crate) fn with(self, data: Vec<u8>) -> Self {
        Self { data, ..self }
    }

    /// Claims a count of bytes that isn't true.
    pub(crate) fn claiming(self, transferred: usize) -> Self {
        Self {
            transferred: Some(transferred),
            ..self
        }
    }
}

/// Commands that were seen, in order.
pub(crate) type Seen = Arc<Mutex<Vec<Vec<u8>>>>;

pub(crate) struct Scripted {
    answers: VecDeque<Answer>,
    seen: Seen,
}

impl Scripted {
    /// A device of this type, whose inquiry is answered before the script begins.
    pub(crate) fn new(device_type: u8, script: Vec<Answer>) -> (Box<Self>, Seen) {
        let inquiry = Inquiry {
            device_type,
            qualifier: 0,
            removable: true,
            vendor: "TAF".into(),
            product: "SCRIPT".into(),
            revision: "1".into(),
        };
        let mut answers = VecDeque::from([
            data(opcode::INQUIRY, inquiry.build()),
            data(opcode::INQUIRY, vpd::serial_build(device_type, "S1")),
        ]);
        answers.extend(script);
        let seen = Seen::default();
        let transport = Self {
            answers,
            seen: Arc::clone(&seen),
        };
        (Box::new(transport), seen)
    }
}

impl Scripted {
    /// A device that is asked for its kind and nothing more.
    pub(crate) fn other_kind(device_type: u8) -> Self {
        let (mut device, _) = Self::new(device_type, Vec::new());
        device.answers.truncate(1);
        let answers = std::mem::take(&mut device.answers);
        Self {
            answers,
            seen: Arc::clone(&device.seen),
        }
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(
                self.answers.is_empty(),
                "commands were expected that never came"
            );
        }
    }
}

impl Transport for Scripted {
    fn execute(&mut self, cdb: &[u8], data: Data<'_>, _: Duration) -> Result<Completion, Error> {
        self.seen.lock().unwrap().push(cdb.to_vec());
        let answer = self
            .answers
            .pop_front()
            .expect("no more commands in the script");
        assert_eq!(cdb[0], answer.opcode, "another command was expected");
        if let Some(error) = answer.error {
            return Err(error);
        }
        let moved = match data {
            Data::None => 0,
            Data::Out(bytes) => bytes.len(),
            Data::In(buffer) => {
                let count = answer.data.len().min(buffer.len());
                buffer[..count].copy_from_slice(&answer.data[..count]);
                count
            }
        };
        Ok(Completion {
            status: answer.status,
            sense: answer.sense,
            transferred: answer.transferred.unwrap_or(moved),
        })
    }

    fn max_transfer(&self) -> usize {
        1 << 20
    }

    fn name(&self) -> &'static str {
        "script"
    }
}
