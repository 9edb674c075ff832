//! How much of a path's speed the driver leaves: blocks by the driver, and by a bare loop of the same commands, over every path to
//! a medium that keeps nothing; or over the path to a device, whose cartridge is overwritten.
//!
//! `cargo run --release -p taf-emulator --example transport_speed [MEGABYTES [BLOCK [DEVICE]]]`
//!
//! Ends with 1 if the driver is slower than nine tenths of the bare loop. Both take turns at a part of the megabytes each; the best
//! turn counts, so that what else the machine does counts little.
#![forbid(unsafe_code)]

use std::error::Error;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use taf_drive::{Drive, Read, ScsiDrive};
use taf_emulator::iscsi::{self, Options};
use taf_scsi::cdb::{self, opcode};
use taf_scsi::page::block_limits::BlockLimits;
use taf_scsi::page::inquiry::{Inquiry, TYPE_TAPE};
use taf_scsi::page::mode::Mode;
use taf_scsi::page::vpd;
use taf_scsi::sense::{Key, Sense, code};
use taf_scsi::target::{Response, Target};
use taf_scsi::transport::in_process::InProcess;
use taf_scsi::transport::iscsi::keys::Wishes;
use taf_scsi::transport::iscsi::{Address, Iscsi, Settings};
use taf_scsi::transport::unix::{Unix, serve};
use taf_scsi::transport::{Data, Transport, open};
use taf_scsi::{status, target};

type Outcome<T> = Result<T, Box<dyn Error>>;
type Open<'a> = Box<dyn Fn() -> Outcome<Box<dyn Transport>> + 'a>;

const ROUNDS: u64 = 40;
const TIMEOUT: Duration = Duration::from_mins(20);
const ENOUGH: f64 = 0.9;

/// Takes every block into a buffer of its own, forgets it with the next, and gives one byte without end (not zero, which
/// an allocator has at hand or not, as it comes).
struct NullMedium {
    buffer: Vec<u8>,
}

impl Target for NullMedium {
    fn execute(&mut self, cdb: &[u8], data_out: &[u8], capacity_in: usize) -> Response {
        let data_in = match cdb[0] {
            opcode::READ_6 => vec![0x55; capacity_in],
            opcode::INQUIRY if cdb[1] & 1 == 1 => vpd::serial_build(TYPE_TAPE, "NULL"),
            opcode::INQUIRY => Inquiry {
                device_type: TYPE_TAPE,
                qualifier: 0,
                removable: true,
                vendor: "TAF".into(),
                product: "NULL".into(),
                revision: "1".into(),
            }
            .build(),
            opcode::READ_BLOCK_LIMITS => BlockLimits {
                granularity: 0,
                max: 8 << 20,
                min: 1,
            }
            .build(),
            opcode::MODE_SENSE_6 => Mode {
                buffered_mode: 1,
                ..Mode::default()
            }
            .build_6(),
            opcode::WRITE_6 => {
                self.buffer.clear();
                self.buffer.extend_from_slice(data_out);
                Vec::new()
            }
            opcode::TEST_UNIT_READY | opcode::WRITE_FILEMARKS_6 | opcode::REWIND => Vec::new(),
            _ => {
                return Response {
                    status: status::CHECK_CONDITION,
                    sense: Sense::new(Key::IllegalRequest, code::INVALID_OPCODE).to_fixed(),
                    ..Response::default()
                };
            }
        };
        Response {
            data_in,
            ..Response::default()
        }
    }
}

fn main() -> Outcome<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let megabytes: u64 = arguments.next().map_or(Ok(4000), |text| text.parse())?;
    let block: usize = arguments
        .next()
        .map_or(Ok(512 << 10), |text| text.parse())?;
    let count = (megabytes * 1_000_000 / block as u64 / ROUNDS).max(1);
    println!(
        "{megabytes} MB each way, blocks of {block} bytes; GB/s by the driver / by a bare loop"
    );
    if let Some(device) = arguments.next() {
        let path: Open = Box::new(|| Ok(open(&device)?));
        return Ok(verdict(measure(&device, &path, block, count)?));
    }

    let medium = Arc::new(Mutex::new(NullMedium { buffer: Vec::new() }));
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("null.sock");
    let listener = UnixListener::bind(&socket)?;
    let served = Arc::clone(&medium);
    std::thread::spawn(move || serve(&listener, &served));
    let unit: Arc<Mutex<dyn target::Target>> = medium.clone();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let portal = iscsi::serve_units(
        listener,
        vec![unit],
        Options::new("iqn.2026-11.internal.taf:null"),
    )?;
    let name = format!("{}/iqn.2026-11.internal.taf:null/0", portal.address());
    let by_iscsi = |digests| {
        let settings = Settings {
            wishes: Wishes {
                digests,
                ..Wishes::default()
            },
            ..Settings::default()
        };
        let name = &name;
        move || -> Outcome<Box<dyn Transport>> {
            Ok(Box::new(Iscsi::open(&Address::parse(name)?, &settings)?))
        }
    };
    let paths: [(&str, Open); 4] = [
        (
            "in process",
            Box::new(|| Ok(Box::new(InProcess::new("null", Arc::clone(&medium))))),
        ),
        (
            "unix socket",
            Box::new(|| Ok(Box::new(Unix::connect(&socket)?))),
        ),
        ("iSCSI", Box::new(by_iscsi(true))),
        ("iSCSI, no digests", Box::new(by_iscsi(false))),
    ];
    let mut least = f64::INFINITY;
    for (name, path) in &paths {
        least = least.min(measure(name, path, block, count)?);
    }
    Ok(verdict(least))
}

fn verdict(least: f64) -> ExitCode {
    if least >= ENOUGH {
        ExitCode::SUCCESS
    } else {
        println!("less than {ENOUGH} of the bare loop");
        ExitCode::FAILURE
    }
}

/// Shows both speeds in both directions; the lesser ratio.
fn measure(name: &str, path: &Open, block: usize, count: u64) -> Outcome<f64> {
    let (mut driver, mut bare) = ([0.0_f64; 2], [0.0_f64; 2]);
    for round in 0..ROUNDS {
        // Neither always follows the other: processors and caches remember.
        for turn in [round % 2, 1 - round % 2] {
            let (best, speed) = if turn == 0 {
                (&mut driver, by_driver(path()?, block, count)?)
            } else {
                (&mut bare, by_loop(path()?, block, count)?)
            };
            *best = [best[0].max(speed[0]), best[1].max(speed[1])];
        }
    }
    let ratio = [driver[0] / bare[0], driver[1] / bare[1]];
    println!(
        "{name:<18} write {:6.2} / {:6.2} = {:4.2}   read {:6.2} / {:6.2} = {:4.2}",
        driver[0], bare[0], ratio[0], driver[1], bare[1], ratio[1]
    );
    Ok(ratio[0].min(ratio[1]))
}

fn by_driver(path: Box<dyn Transport>, block: usize, count: u64) -> Outcome<[f64; 2]> {
    let mut drive = ScsiDrive::new(path)?;
    drive.attentions()?;
    drive.prepare()?;
    drive.rewind()?;
    let mut buffer: Vec<u8> = (0..block).map(|at| (at * 31) as u8).collect();
    let start = Instant::now();
    for _ in 0..count {
        drive.write_block(&buffer)?;
    }
    drive.flush()?;
    let written = speed(block, count, start);
    drive.rewind()?;
    let start = Instant::now();
    for _ in 0..count {
        if drive.read_block(&mut buffer)? != Read::Block(block) {
            return Err("a block of another length".into());
        }
    }
    Ok([written, speed(block, count, start)])
}

fn by_loop(mut path: Box<dyn Transport>, block: usize, count: u64) -> Outcome<[f64; 2]> {
    let mut buffer: Vec<u8> = (0..block).map(|at| (at * 31) as u8).collect();
    let mut run = |cdb: &[u8], data: Data<'_>| match path.execute(cdb, data, TIMEOUT) {
        Ok(done) if done.status == status::GOOD => Ok(()),
        Ok(done) => Err(format!("{done:?}")),
        Err(error) => Err(error.to_string()),
    };
    // Unit attentions.
    while run(&cdb::test_unit_ready(), Data::None).is_err() {}
    run(&cdb::rewind(), Data::None)?;
    let (write, read) = (cdb::write_6(block as u32), cdb::read_6(block as u32, false));
    let start = Instant::now();
    for _ in 0..count {
        run(&write, Data::Out(&buffer))?;
    }
    run(&cdb::write_filemarks_6(0, false), Data::None)?;
    let written = speed(block, count, start);
    run(&cdb::rewind(), Data::None)?;
    let start = Instant::now();
    for _ in 0..count {
        run(&read, Data::In(&mut buffer))?;
    }
    Ok([written, speed(block, count, start)])
}

fn speed(block: usize, count: u64, start: Instant) -> f64 {
    block as f64 * count as f64 / start.elapsed().as_secs_f64() / 1e9
}
