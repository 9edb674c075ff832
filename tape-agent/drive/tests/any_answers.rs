//! A device may answer anything to anything: the drivers make an outcome of it, and end.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use proptest::prelude::*;
use taf_drive::{Changer, Drive, ScsiChanger, ScsiDrive, Sync};
use taf_scsi::cdb::opcode;
use taf_scsi::page::inquiry::{Inquiry, TYPE_CHANGER, TYPE_TAPE};
use taf_scsi::sense::{Key, Sense};
use taf_scsi::transport::{Completion, Data, Error, Transport};

/// One answer; the data are repeated to the buffer's length.
#[derive(Debug, Clone)]
struct Answer {
    status: u8,
    sense: Vec<u8>,
    data: Vec<u8>,
    claim: Option<usize>,
    fault: bool,
}

/// Gives its answers in turn, over and over.
struct Moody {
    device_type: u8,
    answers: Vec<Answer>,
    next: usize,
}

impl Moody {
    fn new(device_type: u8, answers: &[Answer]) -> Self {
        Self {
            device_type,
            answers: answers.to_vec(),
            next: 0,
        }
    }
}

impl Transport for Moody {
    fn execute(&mut self, cdb: &[u8], data: Data<'_>, _: Duration) -> Result<Completion, Error> {
        let mut answer = self.answers[self.next % self.answers.len()].clone();
        // Who it is must be heard once.
        if cdb[0] == opcode::INQUIRY && cdb[1] == 0 {
            let inquiry = Inquiry {
                device_type: self.device_type,
                qualifier: 0,
                removable: true,
                vendor: "MOODY".into(),
                product: "MOODY".into(),
                revision: "1".into(),
            };
            answer = Answer {
                status: 0,
                sense: Vec::new(),
                data: inquiry.build(),
                claim: None,
                fault: false,
            };
        } else {
            self.next += 1;
        }
        if answer.fault {
            return Err(Error::Lost {
                device: "moody".into(),
                reason: "a mood".into(),
            });
        }
        let moved = match data {
            Data::None => 0,
            Data::Out(bytes) => bytes.len(),
            Data::In(buffer) => {
                for (place, byte) in buffer.iter_mut().zip(answer.data.iter().cycle()) {
                    *place = *byte;
                }
                buffer.len()
            }
        };
        Ok(Completion {
            status: answer.status,
            sense: answer.sense,
            transferred: answer.claim.map_or(moved, |claim| claim.min(moved)),
        })
    }

    fn max_transfer(&self) -> usize {
        1 << 20
    }

    fn name(&self) -> &'static str {
        "moody"
    }
}

fn sense() -> impl Strategy<Value = Vec<u8>> {
    let codes = prop_oneof![
        Just((0, 0)),
        Just((0, 1)),
        Just((0, 2)),
        Just((0, 5)),
        Just((4, 1)),
        Just((0x20, 0)),
        Just((0x24, 0)),
        Just((0x29, 0)),
        any::<(u8, u8)>(),
    ];
    let whole = (
        0..16_u8,
        codes,
        any::<[bool; 4]>(),
        proptest::option::of(-70_000..70_000_i64),
    );
    prop_oneof![
        4 => whole.prop_map(|(key, code, [filemark, eom, ili, fixed], information)| {
            let sense = Sense { filemark, eom, ili, information, ..Sense::new(Key::from_code(key), code) };
            if fixed { sense.to_fixed() } else { sense.to_descriptors() }
        }),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    let status =
        prop_oneof![4 => Just(0), 4 => Just(2), 1 => Just(8), 1 => Just(0x18), 1 => any::<u8>()];
    (
        status,
        sense(),
        proptest::collection::vec(any::<u8>(), 1..64),
        proptest::option::of(0..300_usize),
        proptest::bool::weighted(0.02),
    )
        .prop_map(|(status, sense, data, claim, fault)| Answer {
            status,
            sense,
            data,
            claim,
            fault,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_drive_may_answer_anything(answers in proptest::collection::vec(answer(), 1..40)) {
        let Ok(mut drive) = ScsiDrive::new(Box::new(Moody::new(TYPE_TAPE, &answers))) else {
            return Ok(());
        };
        let mut buffer = [0; 1000];
        for _ in 0..4 {
            let _ = drive.attentions();
            let _ = drive.ready();
            let _ = drive.load();
            let _ = drive.prepare();
            let _ = drive.block_limits();
            let _ = drive.rewind();
            let _ = drive.write_block(&buffer);
            let _ = drive.write_filemarks(2, Sync::Immediate);
            let _ = drive.flush();
            if let Ok(taf_drive::Read::Block(length)) = drive.read_block(&mut buffer) {
                prop_assert!(length <= buffer.len());
            }
            let _ = drive.position().map(|position| position.on_medium());
            let _ = drive.locate(7);
            let _ = drive.locate_end_of_data();
            let _ = drive.space_filemarks(-3);
            let _ = drive.locate_file(3);
            let _ = drive.prevent_removal(true);
            let _ = drive.allow_overwrite(0);
            let _ = drive.allow_format();
            let _ = drive.set_append_only(true);
            let _ = drive.densities();
            let _ = drive.block_protection();
            let _ = drive.log_page(0x17);
            let _ = drive.attributes();
            let _ = drive.erase(false);
            let _ = drive.unload();
        }
    }

    #[test]
    fn a_library_may_answer_anything(answers in proptest::collection::vec(answer(), 1..40)) {
        let Ok(mut changer) = ScsiChanger::new(Box::new(Moody::new(TYPE_CHANGER, &answers))) else {
            return Ok(());
        };
        for _ in 0..3 {
            let _ = changer.attentions();
            let _ = changer.ready();
            let _ = changer.inventory();
            let _ = changer.move_medium(1000, 256);
            let _ = changer.scan();
        }
    }
}
