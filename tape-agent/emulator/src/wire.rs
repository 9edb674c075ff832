//! How a command's outcome becomes an answer: what both kinds of logical unit share.

use taf_scsi::cdb::{self, opcode};
use taf_scsi::page::inquiry::Inquiry;
use taf_scsi::page::opcodes::{self, Supported};
use taf_scsi::page::vpd::{self, Designator};
use taf_scsi::sense::{Key, Sense, code};
use taf_scsi::status;
use taf_scsi::target::Response;

/// A CHECK CONDITION, with what data the command gave before it.
#[derive(Debug)]
pub(crate) struct Check {
    pub sense: Sense,
    pub data: Vec<u8>,
}

impl From<Sense> for Check {
    fn from(sense: Sense) -> Self {
        Self {
            sense,
            data: Vec::new(),
        }
    }
}

/// What a command gives: data-in, or a check condition.
pub(crate) type Outcome = Result<Vec<u8>, Check>;

/// Why a command was refused, or how it ended otherwise than well.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// With a CHECK CONDITION.
    Check(Check),
    /// With another status; the command did not run.
    Status(u8),
}

impl Refusal {
    /// Whether it is an error, rather than news such as a filemark or early warning.
    pub fn is_error(&self) -> bool {
        match self {
            Self::Check(check) => {
                check.sense.deferred
                    || !matches!(
                        check.sense.key,
                        Key::NoSense | Key::RecoveredError | Key::UnitAttention
                    )
            }
            Self::Status(_) => true,
        }
    }
}

impl From<Check> for Refusal {
    fn from(check: Check) -> Self {
        Self::Check(check)
    }
}

impl From<Sense> for Refusal {
    fn from(sense: Sense) -> Self {
        Self::Check(sense.into())
    }
}

/// What the initiator gets: data-in, or a refusal.
pub(crate) type Reply = Result<Vec<u8>, Refusal>;

/// A command of at most 16 bytes, padded, so that every field can be read without asking.
#[derive(Debug)]
pub(crate) struct Cdb([u8; 16]);

impl Cdb {
    pub fn new(bytes: &[u8]) -> Self {
        let mut cdb = [0; 16];
        let length = bytes.len().min(16);
        cdb[..length].copy_from_slice(&bytes[..length]);
        Self(cdb)
    }

    pub fn byte(&self, at: usize) -> u8 {
        self.0[at]
    }

    pub fn bit(&self, at: usize, bit: u8) -> bool {
        self.0[at] & (1 << bit) != 0
    }

    /// An unsigned big-endian field of `N` bytes, at most eight.
    pub fn field<const N: usize>(&self, at: usize) -> u64 {
        self.0[at..at + N]
            .iter()
            .fold(0, |value, byte| (value << 8) | u64::from(*byte))
    }

    /// PREVENT ALLOW MEDIUM REMOVAL: whether it prevents.
    pub fn prevents(&self) -> bool {
        !self.0[4].is_multiple_of(4)
    }

    /// Whether the command must report a pending unit attention or deferred error instead of running (SPC-5
    /// 5.14: all but these).
    pub fn yields_to_pending(&self) -> bool {
        !matches!(
            self.0[0],
            opcode::INQUIRY | opcode::REPORT_LUNS | opcode::REQUEST_SENSE
        )
    }
}

/// Cuts `data` to an allocation length.
pub(crate) fn cut(mut data: Vec<u8>, allocation: u64) -> Vec<u8> {
    data.truncate(usize::try_from(allocation).unwrap_or(usize::MAX));
    data
}

pub(crate) fn illegal(code: (u8, u8)) -> Check {
    Sense::new(Key::IllegalRequest, code).into()
}

pub(crate) fn invalid_field() -> Check {
    illegal(code::INVALID_FIELD_IN_CDB)
}

pub(crate) fn invalid_parameter() -> Check {
    illegal(code::INVALID_FIELD_IN_PARAMETERS)
}

/// REQUEST SENSE's answer, in the format that its DESC bit asks for.
pub(crate) fn sense_data(cdb: &Cdb, sense: &Sense) -> Vec<u8> {
    let bytes = if cdb.bit(1, 0) {
        sense.to_descriptors()
    } else {
        sense.to_fixed()
    };
    cut(bytes, cdb.field::<1>(4))
}

/// The only logical unit is number 0.
pub(crate) fn report_luns(cdb: &Cdb) -> Vec<u8> {
    let mut data = vec![0; 16];
    data[3] = 8;
    cut(data, cdb.field::<4>(6))
}

/// The answer on the wire; its sense in descriptor format if so wanted.
pub(crate) fn respond(reply: Reply, capacity_in: usize, descriptors: bool) -> Response {
    let (status, sense, mut data_in) = match reply {
        Ok(data) => (status::GOOD, Vec::new(), data),
        Err(Refusal::Check(check)) => {
            let sense = if descriptors {
                check.sense.to_descriptors()
            } else {
                check.sense.to_fixed()
            };
            (status::CHECK_CONDITION, sense, check.data)
        }
        Err(Refusal::Status(status)) => (status, Vec::new(), Vec::new()),
    };
    data_in.truncate(capacity_in);
    Response {
        status,
        sense,
        data_in,
    }
}

/// REPORT SUPPORTED OPERATION CODES, all of them: operation code, service action, recommended timeout in seconds.
pub(crate) fn supported_opcodes(cdb: &Cdb, known: &[(u8, Option<u16>, u32)]) -> Outcome {
    if cdb.byte(1) & 0x1f != opcode::SERVICE_REPORT_SUPPORTED_OPCODES {
        return Err(invalid_field());
    }
    if cdb.byte(2) & 0x07 != 0 {
        return Err(invalid_field()); // one command alone
    }
    let commands: Vec<_> = known
        .iter()
        .map(|&(opcode, service_action, timeout)| Supported {
            opcode,
            service_action,
            length: cdb::length(opcode).unwrap_or(16) as u16,
            timeout_seconds: Some(timeout),
        })
        .collect();
    let data = opcodes::build(&commands, cdb.bit(2, 7));
    Ok(cut(data, cdb.field::<4>(6)))
}

/// What a logical unit says of itself.
pub(crate) struct Identity<'a> {
    /// Peripheral device type: 1 tape, 8 changer.
    pub device_type: u8,
    /// At most 16 ASCII characters.
    pub product: &'a str,
    /// Unit serial number, ASCII.
    pub serial: &'a str,
}

const VENDOR: &str = "TAF";

impl Identity<'_> {
    /// INQUIRY: standard data and the pages 00h, 80h, 83h.
    pub fn inquiry(&self, cdb: &Cdb) -> Outcome {
        let device = self.device_type;
        let data = match (cdb.bit(1, 0), cdb.byte(2)) {
            (false, 0) => Inquiry {
                device_type: device,
                qualifier: 0,
                removable: true,
                vendor: VENDOR.to_owned(),
                product: self.product.to_owned(),
                revision: "0001".to_owned(),
            }
            .build(),
            (true, vpd::SUPPORTED_PAGES) => vpd::supported_pages_build(
                device,
                &[
                    vpd::SUPPORTED_PAGES,
                    vpd::SERIAL_NUMBER,
                    vpd::IDENTIFICATION,
                ],
            ),
            (true, vpd::SERIAL_NUMBER) => vpd::serial_build(device, self.serial),
            (true, vpd::IDENTIFICATION) => vpd::identification_build(
                device,
                &[Designator {
                    code_set: 2,
                    association: 0,
                    kind: 1,
                    bytes: self.t10_name(),
                }],
            ),
            _ => return Err(invalid_field()),
        };
        Ok(cut(data, cdb.field::<2>(3)))
    }

    /// Vendor (8), product (16) and serial number: a T10 vendor designator (SPC-5 7.7.6.4).
    pub fn t10_name(&self) -> Vec<u8> {
        format!("{VENDOR:<8}{:<16.16}{}", self.product, self.serial).into_bytes()
    }
}
