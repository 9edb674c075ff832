//! What the kernel's three statuses mean together.
//!
//! The device's own status is an answer, whatever it is. A status of the host adapter or of the kernel's driver
//! says that the answer did not come, or that it can't be trusted: then nobody knows what the command did.

use std::time::Duration;

use crate::sense::Sense;
use crate::status;
use crate::transport::ioctl::Answer;
use crate::transport::{Completion, Error};

/// What the data phase was, which decides how much a doubt about it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    None,
    In(usize),
    Out(usize),
}

const DID_OK: u16 = 0x00;
const DID_TIME_OUT: u16 = 0x03;
const DID_ERROR: u16 = 0x07;
const DID_SOFT_ERROR: u16 = 0x0b;
/// The kernel derives these from the device's own status or sense: target, nexus, allocation, medium.
const OF_THE_DEVICE: std::ops::RangeInclusive<u16> = 0x10..=0x13;

/// The driver's own part of its status; the upper half was advice, in old kernels.
const DRIVER_MASK: u16 = 0x0f;
const DRIVER_TIMEOUT: u16 = 0x06;
/// Only says that there is sense data.
const DRIVER_SENSE: u16 = 0x08;

/// The outcome of a command that the kernel took.
pub(super) fn interpret(
    device: &str,
    answer: Answer,
    phase: Phase,
    timeout: Duration,
) -> Result<Completion, Error> {
    let driver = answer.driver & DRIVER_MASK;
    if answer.host == DID_TIME_OUT || driver == DRIVER_TIMEOUT {
        return Err(Error::Timeout {
            device: device.to_owned(),
            seconds: timeout.as_secs(),
        });
    }
    let lost = |reason: String| Error::Lost {
        device: device.to_owned(),
        reason,
    };
    if !matches!(driver, 0 | DRIVER_SENSE) {
        return Err(lost(format!("the kernel's driver reports {driver:#04x}")));
    }
    if answer.host != DID_OK && !answered(&answer, phase) {
        return Err(lost(format!(
            "the host adapter reports {:#04x} ({})",
            answer.host,
            host_words(answer.host)
        )));
    }
    let length = match phase {
        Phase::None => 0,
        Phase::In(length) | Phase::Out(length) => length,
    };
    // Out of range it is nonsense, and everything counts as moved: the sense data have the last word anyway.
    let residual = usize::try_from(answer.residual)
        .ok()
        .filter(|&rest| rest <= length)
        .unwrap_or(0);
    Ok(Completion {
        status: answer.status,
        sense: answer.sense,
        transferred: length - residual,
    })
}

/// Whether the device has answered all the same.
fn answered(answer: &Answer, phase: Phase) -> bool {
    if OF_THE_DEVICE.contains(&answer.host) {
        return answer.status != status::GOOD;
    }
    // Some adapters call a short read an error although the device's sense data tell its length. What came of a
    // read is checked by what is in it; what became of a write is not, so there the doubt counts.
    matches!(answer.host, DID_ERROR | DID_SOFT_ERROR)
        && !matches!(phase, Phase::Out(_))
        && answer.status == status::CHECK_CONDITION
        && Sense::parse(&answer.sense).is_some()
}

fn host_words(code: u16) -> &'static str {
    match code {
        0x01 => "no connection to the device",
        0x02 => "the bus stayed busy",
        0x04 => "no device at this address",
        0x05 => "the command was aborted",
        0x06 => "parity error on the bus",
        0x07 => "error of the adapter",
        0x08 => "the bus or the device was reset",
        0x09 => "unexpected interrupt",
        0x0a => "forced through",
        0x0b => "transient error of the adapter",
        0x0c | 0x0d => "the adapter wants it sent again",
        0x0e => "the transport was disrupted",
        0x0f => "the transport gave up",
        0x10 => "the device failed for good",
        0x11 => "the path failed for good",
        0x12 => "no space in the device",
        0x13 => "medium error",
        0x14 => "the transport is marginal",
        _ => "unknown code",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::sense::{Key, code};

    const LIMIT: Duration = Duration::from_secs(9);

    fn of(answer: Answer, phase: Phase) -> Result<Completion, Error> {
        interpret("/dev/sg0", answer, phase, LIMIT)
    }

    fn ili() -> Vec<u8> {
        Sense::new(Key::NoSense, code::NONE)
            .with_ili()
            .with_information(100)
            .to_fixed()
    }

    #[test]
    fn what_the_device_says_is_an_answer() {
        for status in [0x00, 0x02, 0x08, 0x18, 0x28, 0x40] {
            let answer = Answer {
                status,
                ..Answer::default()
            };
            assert_eq!(of(answer, Phase::Out(7)).unwrap().status, status);
        }
        // A driver that says *sense* says nothing else.
        let answer = Answer {
            status: 2,
            driver: 8,
            sense: ili(),
            residual: 28,
            ..Answer::default()
        };
        let done = of(answer, Phase::In(128)).unwrap();
        assert_eq!((done.sense, done.transferred), (ili(), 100));
    }

    #[test]
    fn a_timeout_is_told_from_a_loss_wherever_it_is_said() {
        for (host, driver) in [(3, 0), (0, 6), (3, 0x16), (7, 6)] {
            let answer = Answer {
                host,
                driver,
                ..Answer::default()
            };
            let error = of(answer, Phase::None).unwrap_err();
            assert!(matches!(error, Error::Timeout { seconds: 9, .. }));
        }
    }

    #[test]
    fn what_the_adapter_or_the_driver_met_makes_the_outcome_unknown() {
        for host in [1, 2, 4, 5, 6, 7, 8, 9, 0xb, 0xc, 0xd, 0xe, 0xf, 0x14, 0x99] {
            let answer = Answer {
                host,
                ..Answer::default()
            };
            let error = of(answer, Phase::In(512)).unwrap_err();
            assert!(matches!(error, Error::Lost { .. }), "{host:#x}");
        }
        for driver in [1, 2, 3, 4, 5, 7] {
            let answer = Answer {
                driver,
                ..Answer::default()
            };
            assert!(of(answer, Phase::None).is_err(), "{driver}");
        }
        let reset = Answer {
            host: 8,
            status: 2,
            sense: ili(),
            ..Answer::default()
        };
        let error = of(reset, Phase::In(512)).unwrap_err().to_string();
        assert_eq!(
            error,
            "lost the path to /dev/sg0: the host adapter reports 0x08 (the bus or the device was reset)"
        );
    }

    #[test]
    fn a_host_status_that_repeats_the_devices_word_is_an_answer() {
        let conflict = Answer {
            status: 0x18,
            host: 0x11,
            ..Answer::default()
        };
        assert_eq!(of(conflict, Phase::Out(9)).unwrap().status, 0x18);
        let nothing = Answer {
            host: 0x11,
            ..Answer::default()
        };
        assert!(of(nothing, Phase::Out(9)).is_err());
    }

    #[test]
    fn an_adapter_that_calls_a_short_read_an_error_is_overruled_by_sense_but_not_for_a_write() {
        let answer = Answer {
            status: 2,
            host: 7,
            driver: 8,
            sense: ili(),
            residual: 0,
        };
        assert_eq!(of(answer.clone(), Phase::In(512)).unwrap().sense, ili());
        assert!(of(answer.clone(), Phase::Out(512)).is_err());
        let senseless = Answer {
            sense: vec![0; 18],
            ..answer
        };
        assert!(of(senseless, Phase::In(512)).is_err());
    }

    #[test]
    fn a_residual_that_can_not_be_is_ignored() {
        for (residual, transferred) in [(0, 512), (512, 0), (12, 500), (513, 512), (-4, 512)] {
            let answer = Answer {
                residual,
                ..Answer::default()
            };
            assert_eq!(of(answer, Phase::In(512)).unwrap().transferred, transferred);
        }
    }
}
