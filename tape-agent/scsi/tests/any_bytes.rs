//! No bytes from a device, nor from an initiator, make a decoder panic: raw ones, and answers that are almost right.
//!
//! A long run: `PROPTEST_CASES=1000000 cargo test --release -p taf-scsi --test any_bytes`.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use taf_scsi::cdb::ElementType;
use taf_scsi::page::element_status::{Element, Identifier, Report};
use taf_scsi::page::log::{self, Parameter};
use taf_scsi::page::mode::{BlockDescriptor, Mode, tape};
use taf_scsi::page::opcodes::Supported;
use taf_scsi::page::position::{Location, Long, Short};
use taf_scsi::page::reservation::{self, Capabilities, Holder, Keys, Reservation};
use taf_scsi::page::tape_alert::Flags;
use taf_scsi::page::{attribute, block_limits, density, inquiry, mode, opcodes, vpd};
use taf_scsi::sense::{Key, Sense, code};
use taf_scsi::target::{Response, Target};
use taf_scsi::transport::unix::{Unix, serve_stream};
use taf_scsi::transport::{Data, Transport};

type Decode = fn(&[u8]);

/// Every decoder by file and name, with all that can be asked of what it finds.
const DECODERS: [(&str, &str, Decode); 29] = [
    ("sense", "parse", |bytes| {
        if let Some(sense) = Sense::parse(bytes) {
            let again = Sense::parse(&sense.to_descriptors()).unwrap();
            assert_eq!(again, sense);
            let fixed = Sense::parse(&sense.to_fixed()).unwrap();
            assert_eq!(fixed.code(), sense.code());
            assert!(!sense.to_string().is_empty());
        }
    }),
    ("inquiry", "parse", |bytes| {
        if let Ok(inquiry) = inquiry::Inquiry::parse(bytes) {
            assert_eq!(inquiry::Inquiry::parse(&inquiry.build()).unwrap(), inquiry);
        }
    }),
    ("vpd", "serial_parse", |bytes| {
        if let Ok(serial) = vpd::serial_parse(bytes) {
            assert!(serial.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        }
    }),
    ("vpd", "identification_parse", |bytes| {
        let _ = vpd::identification_parse(bytes);
    }),
    ("block_limits", "parse", |bytes| {
        let _ = block_limits::BlockLimits::parse(bytes);
    }),
    ("mode", "parse_6", |bytes| pages(Mode::parse_6(bytes))),
    ("mode", "parse_10", |bytes| pages(Mode::parse_10(bytes))),
    ("mode", "parse_select_6", |bytes| {
        pages(Mode::parse_select_6(bytes));
    }),
    ("mode", "parse_select_10", |bytes| {
        pages(Mode::parse_select_10(bytes));
    }),
    ("tape", "parse", |bytes| {
        if let Ok(extension) = tape::Extension::parse(bytes) {
            extension.put(&mut bytes.to_vec());
        }
    }),
    ("tape", "parse", |bytes| {
        if let Ok(partitions) = tape::Partitions::parse(bytes) {
            partitions.build();
        }
    }),
    ("log", "parse", |bytes| {
        // Under its own code, whichever that is.
        let code = bytes.first().map_or(0, |byte| byte & 0x3f);
        if let Ok(parameters) = log::parse(code, bytes) {
            statistics(&parameters);
        }
    }),
    ("log", "supported_pages_parse", |bytes| {
        let _ = log::supported_pages_parse(bytes);
    }),
    ("tape_alert", "parse", |bytes| {
        if let Ok(flags) = Flags::parse(bytes) {
            assert_eq!(Flags::of(&flags.iter().collect::<Vec<_>>()), flags);
        }
    }),
    ("tape_alert", "parse_response", |bytes| {
        if let Ok(flags) = Flags::parse_response(bytes) {
            assert_eq!(
                Flags::parse_response(&flags.build_response()).unwrap(),
                flags
            );
        }
    }),
    ("attribute", "parse", |bytes| {
        for one in attribute::parse(bytes).into_iter().flatten() {
            let _ = (one.text(), one.number());
        }
    }),
    ("attribute", "parse_whole", |bytes| {
        let _ = attribute::parse_whole(bytes);
    }),
    ("attribute", "list_parse", |bytes| {
        let _ = attribute::list_parse(bytes);
    }),
    ("opcodes", "parse", |bytes| {
        let _ = opcodes::parse(bytes);
    }),
    ("density", "parse", |bytes| {
        let _ = density::parse(bytes);
    }),
    ("position", "parse", |bytes| {
        let _ = Short::parse(bytes);
    }),
    ("position", "parse_extended", |bytes| {
        let _ = Short::parse_extended(bytes);
    }),
    ("position", "parse", |bytes| {
        let _ = Long::parse(bytes);
    }),
    ("element_status", "parse", |bytes| {
        if let Ok(report) = Report::parse(bytes) {
            assert!(report.elements.len() <= bytes.len());
            for element in &report.elements {
                let _ = element.identifier.as_ref().map(Identifier::serial);
            }
            Report::build(&report.elements, true, true);
        }
    }),
    ("reservation", "parse", |bytes| {
        let _ = Keys::parse(bytes);
    }),
    ("reservation", "parse", |bytes| {
        let _ = Reservation::parse(bytes);
    }),
    ("reservation", "parse", |bytes| {
        let _ = Capabilities::parse(bytes);
    }),
    ("reservation", "parse", |bytes| {
        let _ = reservation::Parameters::parse(bytes);
    }),
    ("status", "of", |bytes| {
        let value = bytes.to_vec();
        for code in 0..3 {
            let one = Parameter {
                code,
                control: 3,
                value: value.clone(),
            };
            statistics(&[one]);
        }
    }),
];

fn pages(mode: Result<Mode, taf_scsi::page::Error>) {
    let Ok(mode) = mode else { return };
    for code in 0..64 {
        for subpage in [0, 1, 255] {
            if let Some(page) = mode.page(code, subpage) {
                assert!(page.len() <= mode.pages.len());
            }
        }
    }
    mode.build_6();
    mode.build_select_10();
}

fn statistics(parameters: &[Parameter]) {
    for one in parameters {
        let _ = (one.number(), one.text());
    }
    let _ = log::status::DeviceStatus::of(parameters);
    let _ = log::counters::ErrorCounters::of(parameters);
    log::build(0x17, parameters);
}

/// One right answer of each kind.
fn right() -> Vec<Vec<u8>> {
    let element = Element {
        full: true,
        volume_tag: Some("TAF001L8".into()),
        source: Some(1000),
        identifier: Some(Identifier {
            code_set: 2,
            kind: 1,
            bytes: b"IBM     ULT3580-TD8     SN1".to_vec(),
        }),
        ..Element::new(ElementType::DataTransfer, 256)
    };
    let slot = Element::new(ElementType::Storage, 1000);
    let mode = Mode {
        block: Some(BlockDescriptor {
            density: 0x5e,
            ..BlockDescriptor::default()
        }),
        pages: [
            tape::Extension::default().build(),
            tape::Partitions {
                sizes: vec![3, 5],
                ..tape::Partitions::default()
            }
            .build(),
            vec![mode::DATA_COMPRESSION, 2, 0xc0, 0x80],
        ]
        .concat(),
        ..Mode::default()
    };
    let parameters = [
        Parameter::counter(5, 1 << 40, 8),
        Parameter::counter(0x17, 9, 4),
        Parameter::ascii(0x40, "SERIAL", 32),
    ];
    let sense = Sense::new(Key::MediumError, code::WRITE_ERROR)
        .deferred()
        .with_eom()
        .with_information(-77);
    let command = Supported {
        opcode: 0x9e,
        service_action: Some(0x10),
        length: 16,
        timeout_seconds: Some(70),
    };
    let attributes = [
        attribute::Attribute::fixed_number(attribute::LOAD_COUNT, 7, 8),
        attribute::Attribute::host_text(attribute::BARCODE, "TAF001L8"),
    ];
    let short = Short {
        location: Some(Location { first: 9, last: 7 }),
        buffered_objects: Some(2),
        ..Short::default()
    };
    let densities = [density::Density {
        code: 0x5e,
        writable: true,
        default: true,
        capacity_megabytes: 12_000_000,
        tracks: 6656,
        name: "U-8".into(),
        description: "Ultrium 8".into(),
    }];
    let holder = Holder {
        key: 0x7461_6600,
        kind: reservation::Type::ExclusiveAccess,
    };
    let inquiry = inquiry::Inquiry {
        device_type: 1,
        qualifier: 0,
        removable: true,
        vendor: "IBM".into(),
        product: "ULT3580-TD8".into(),
        revision: "K4K1".into(),
    };
    vec![
        Report::build(&[slot.clone(), element.clone()], true, false),
        Report::build(&[element], false, true),
        mode.build_6(),
        mode.build_10(),
        mode.pages.clone(),
        log::build(0x17, &parameters),
        log::supported_pages_build(&[0, 2, 0x17]),
        Flags::of(&[3, 20]).build(),
        Flags::of(&[1, 64]).build_response(),
        sense.to_fixed(),
        sense.to_descriptors(),
        opcodes::build(&[command], true),
        attribute::build(&attributes),
        attribute::list_build(&[0, 0x806]),
        short.build(),
        short.build_extended(),
        Long::default().build(),
        density::build(&densities),
        vpd::serial_build(1, "SERIAL"),
        vpd::identification_build(
            1,
            &[vpd::Designator {
                code_set: 1,
                association: 0,
                kind: 3,
                bytes: vec![0x50; 8],
            }],
        ),
        Keys {
            generation: 4,
            keys: vec![1, 2],
        }
        .build(),
        Reservation {
            generation: 4,
            holder: Some(holder),
        }
        .build(),
        Capabilities::default().build(),
        reservation::Parameters::default().build(),
        inquiry.build(),
        block_limits::BlockLimits {
            granularity: 0,
            max: 8 << 20,
            min: 1,
        }
        .build(),
    ]
}

/// What goes wrong with an answer on its way.
#[derive(Debug, Clone)]
enum Harm {
    Byte(usize, u8),
    Length(usize, u16),
    Cut(usize),
    Tail(Vec<u8>),
    Twice(usize),
}

fn harm() -> impl Strategy<Value = Harm> {
    let edge = prop_oneof![
        Just(0_u16),
        Just(1),
        Just(0x7fff),
        Just(0x8000),
        Just(0xffff),
        any::<u16>(),
    ];
    prop_oneof![
        (0..200_usize, any::<u8>()).prop_map(|(at, byte)| Harm::Byte(at, byte)),
        (0..200_usize, edge).prop_map(|(at, length)| Harm::Length(at, length)),
        (0..200_usize).prop_map(Harm::Cut),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Harm::Tail),
        (0..200_usize).prop_map(Harm::Twice),
    ]
}

fn harmed(mut bytes: Vec<u8>, harms: &[Harm]) -> Vec<u8> {
    for harm in harms {
        let length = bytes.len().max(1);
        match harm {
            Harm::Byte(at, byte) => {
                if let Some(place) = bytes.get_mut(at % length) {
                    *place = *byte;
                }
            }
            Harm::Length(at, value) => {
                let at = at % length;
                if let Some(field) = bytes.get_mut(at..at + 2) {
                    field.copy_from_slice(&value.to_be_bytes());
                }
            }
            Harm::Cut(at) => bytes.truncate(at % length),
            Harm::Tail(tail) => bytes.extend(tail),
            Harm::Twice(from) => {
                let again = bytes[from % length..].to_vec();
                bytes.extend(again);
            }
        }
    }
    bytes
}

#[test]
fn no_decoder_is_left_out() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut open = vec![source.join("page"), source.join("sense.rs")];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(
                fs::read_dir(path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
            continue;
        }
        let file = path.file_stem().unwrap().to_str().unwrap().to_owned();
        for line in fs::read_to_string(&path).unwrap().lines() {
            let name = line
                .trim()
                .strip_prefix("pub fn ")
                .and_then(|rest| rest.split('(').next());
            if let Some(name) = name.filter(|name| name.contains("parse")) {
                found.push((file.clone(), name.to_owned()));
            }
        }
    }
    let mut known: Vec<(String, String)> = DECODERS
        .iter()
        .filter(|(_, name, _)| name.contains("parse"))
        .map(|(file, name, _)| ((*file).to_owned(), (*name).to_owned()))
        .collect();
    found.sort();
    known.sort();
    assert_eq!(
        found, known,
        "add the new decoder to DECODERS, and a right answer to right()"
    );
}

#[test]
fn right_answers_are_understood_by_somebody() {
    for bytes in right() {
        for (_, _, decode) in DECODERS {
            decode(&bytes);
            for length in 0..bytes.len() {
                decode(&bytes[..length]);
            }
        }
    }
}

/// At least so many cases; `PROPTEST_CASES` says more.
fn cases() -> ProptestConfig {
    let standard = ProptestConfig::default();
    ProptestConfig {
        cases: standard.cases.max(1000),
        failure_persistence: None,
        ..standard
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn raw_bytes_make_nothing_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        for (_, _, decode) in DECODERS {
            decode(&bytes);
        }
    }

    #[test]
    fn almost_right_answers_make_nothing_panic(
        which in any::<proptest::sample::Index>(),
        harms in proptest::collection::vec(harm(), 1..5),
    ) {
        let right = right();
        let bytes = harmed(which.get(&right).clone(), &harms);
        for (_, _, decode) in DECODERS {
            decode(&bytes);
        }
    }
}

/// Answers with the command's own bytes.
struct Echo;

impl Target for Echo {
    fn execute(&mut self, cdb: &[u8], data_out: &[u8], capacity_in: usize) -> Response {
        let mut data_in = [cdb, data_out].concat();
        data_in.truncate(capacity_in);
        Response {
            data_in,
            ..Response::default()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_initiator_may_send_anything(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), small: bool) {
        if small && bytes.len() >= 24 {
            // Lengths that are taken, so that more than the first head is read.
            bytes[16..24].copy_from_slice(&[9, 0, 0, 0, 40, 0, 0, 0]);
        }
        let (mut near, far) = UnixStream::pair().unwrap();
        near.write_all(&bytes).unwrap();
        near.shutdown(Shutdown::Write).unwrap();
        let _ = serve_stream(far, &Mutex::new(Echo));
        // A reset is what the initiator sees whose nonsense was left unread.
        let _ = near.read_to_end(&mut Vec::new());
    }

    #[test]
    fn a_target_may_answer_anything(bytes in proptest::collection::vec(any::<u8>(), 0..200), zeros in 0..9_usize) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let mut bytes = bytes;
        // A head that is believed more often than chance would have it.
        let zeros = zeros.min(bytes.len());
        bytes[..zeros].fill(0);
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 24];
            stream.read_exact(&mut head).unwrap();
            let _ = stream.write_all(&bytes);
        });
        let mut path = Unix::connect(&socket).unwrap();
        let mut buffer = [0; 64];
        let outcome = path.execute(&[0; 6], Data::In(&mut buffer), Duration::from_secs(5));
        server.join().unwrap();
        if let Ok(done) = outcome {
            prop_assert!(done.transferred <= buffer.len() && done.sense.len() <= 252);
        }
    }
}
