//! One command to one device, and its status made into a value or an error.

use std::time::Duration;

use taf_scsi::page::inquiry::{self, Inquiry};
use taf_scsi::page::vpd;
use taf_scsi::sense::{Key, Sense, code};
use taf_scsi::transport::{Data, Transport};
use taf_scsi::{cdb, status};

use crate::error::Error;
use crate::outcome::Identity;
use crate::timeout::Timeouts;

/// More unit attentions in a row than any device queues.
const ATTENTIONS_MAX: usize = 16;

/// A device that is busy is asked so often; the command did not run.
const BUSY_TRIES: u32 = 5;
/// Before the second time. Each further pause is twice as long.
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// A command that the device carried out, with what it had to add.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    /// Bytes moved according to the transport.
    pub transferred: usize,
    /// Sense with key NO SENSE, RECOVERED ERROR or COMPLETED.
    pub sense: Option<Sense>,
}

/// A device at the end of a path.
pub(crate) struct Device {
    pub transport: Box<dyn Transport>,
    pub identity: Identity,
    pub timeouts: Timeouts,
    /// The last command that could move the tape put it at its beginning, and nothing happened since.
    pub at_beginning: bool,
}

impl Device {
    /// Asks who is there. INQUIRY runs in spite of unit attentions and consumes none.
    pub(crate) fn new(
        transport: Box<dyn Transport>,
        kind: u8,
        wanted: &'static str,
    ) -> Result<Self, Error> {
        let mut device = Self {
            transport,
            identity: Identity {
                vendor: String::new(),
                product: String::new(),
                revision: String::new(),
                serial: None,
            },
            timeouts: Timeouts::default(),
            at_beginning: false,
        };
        let inquiry =
            Inquiry::parse(&device.fetch(&cdb::inquiry(inquiry::LENGTH as u16), inquiry::LENGTH)?)?;
        if inquiry.device_type != kind {
            return Err(Error::WrongDevice {
                device: device.transport.name().to_owned(),
                wanted,
                found: inquiry.device_type,
            });
        }
        let serial = match device.fetch(&cdb::inquiry_vpd(vpd::SERIAL_NUMBER, 252), 252) {
            Ok(bytes) => vpd::serial_parse(&bytes)
                .ok()
                .filter(|serial| !serial.is_empty()),
            Err(error) if error.unsupported() => None,
            Err(error) => return Err(error),
        };
        device.identity = Identity {
            vendor: inquiry.vendor,
            product: inquiry.product,
            revision: inquiry.revision,
            serial,
        };
        Ok(device)
    }

    /// Runs one command. Any error but a refusal makes it doubtful where the tape stands.
    pub(crate) fn run(&mut self, cdb: &[u8], mut data: Data<'_>) -> Result<Done, Error> {
        let mut outcome = self.exchange(cdb, data.again());
        let mut pause = BUSY_PAUSE;
        for _ in 1..BUSY_TRIES {
            if !matches!(outcome, Err(Error::Busy)) {
                break;
            }
            std::thread::sleep(pause);
            pause *= 2;
            outcome = self.exchange(cdb, data.again());
        }
        if !matches!(outcome, Ok(_) | Err(Error::IllegalRequest(_))) {
            self.at_beginning = false;
        }
        outcome
    }

    fn exchange(&mut self, cdb: &[u8], data: Data<'_>) -> Result<Done, Error> {
        let timeout = self.timeouts.of(cdb[0]);
        let completion = self.transport.execute(cdb, data, timeout)?;
        let transferred = completion.transferred;
        let sense = match completion.status {
            // GOOD may come with sense of key COMPLETED, which adds nothing.
            status::GOOD => {
                return Ok(Done {
                    transferred,
                    sense: None,
                });
            }
            status::CHECK_CONDITION => {
                Sense::parse(&completion.sense).ok_or(Error::Status(completion.status))?
            }
            status::RESERVATION_CONFLICT => return Err(Error::ReservationConflict),
            status::BUSY | status::TASK_SET_FULL => return Err(Error::Busy),
            other => return Err(Error::Status(other)),
        };
        tracing::debug!(device = self.transport.name(), command = cdb[0], %sense, "check condition");
        let done = matches!(
            sense.key,
            Key::NoSense | Key::RecoveredError | Key::Completed
        );
        if sense.deferred || !done {
            return Err(Error::from_sense(sense));
        }
        if sense.key == Key::RecoveredError {
            tracing::info!(device = self.transport.name(), command = cdb[0], %sense, "the device recovered");
        }
        Ok(Done {
            transferred,
            sense: Some(sense),
        })
    }

    /// Runs a command without data that has nothing to add but *done*.
    pub(crate) fn order(&mut self, cdb: &[u8]) -> Result<(), Error> {
        self.run(cdb, Data::None).map(|_| ())
    }

    /// Runs a command that brings at most `capacity` bytes.
    pub(crate) fn fetch(&mut self, cdb: &[u8], capacity: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; capacity];
        let done = self.run(cdb, Data::In(&mut bytes))?;
        bytes.truncate(done.transferred);
        Ok(bytes)
    }

    /// Takes all pending unit attentions.
    pub(crate) fn attentions(&mut self) -> Result<Vec<Sense>, Error> {
        let mut found = Vec::new();
        while found.len() < ATTENTIONS_MAX {
            match self.order(&cdb::test_unit_ready()) {
                Err(Error::UnitAttention(sense)) => found.push(sense),
                Ok(()) | Err(Error::NotReady(_)) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Learns the device's own timeouts, if it states any.
    pub(crate) fn learn_timeouts(&mut self) -> Result<(), Error> {
        const CAPACITY: usize = 16 << 10;
        match self.fetch(
            &cdb::report_supported_opcodes(true, CAPACITY as u32),
            CAPACITY,
        ) {
            Ok(bytes) => {
                if let Ok(commands) = taf_scsi::page::opcodes::parse(&bytes) {
                    self.timeouts.learn(&commands);
                }
                Ok(())
            }
            Err(Error::IllegalRequest(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Whether the sense says that nothing is recorded beyond here, in whatever key the device says it.
pub(crate) fn end_of_data(sense: &Sense) -> bool {
    match sense.key {
        // tgt leaves the code out, others say 00/05; any other code (14/03: no end found) is damage.
        Key::BlankCheck => matches!(sense.code(), code::NONE | code::END_OF_DATA_DETECTED),
        Key::NoSense => sense.code() == code::END_OF_DATA_DETECTED,
        _ => false,
    }
}
