//! How fast the driver alone is: blocks to and from a medium that keeps nothing, in process and over a unix socket.
//!
//! `cargo run --release -p taf-drive --example null_medium [GIGABYTES [BLOCK]]`
#![forbid(unsafe_code)]

use std::error::Error;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use taf_drive::{Drive, Read, ScsiDrive};
use taf_scsi::cdb::opcode;
use taf_scsi::page::block_limits::BlockLimits;
use taf_scsi::page::inquiry::{Inquiry, TYPE_TAPE};
use taf_scsi::page::mode::Mode;
use taf_scsi::page::vpd;
use taf_scsi::sense::{Key, Sense, code};
use taf_scsi::status;
use taf_scsi::target::{Response, Target};
use taf_scsi::transport::in_process::InProcess;
use taf_scsi::transport::unix::{Unix, serve};

/// Takes every block into a buffer of its own, forgets it with the next, and gives zeros without end.
struct NullMedium {
    buffer: Vec<u8>,
}

impl Target for NullMedium {
    fn execute(&mut self, cdb: &[u8], data_out: &[u8], capacity_in: usize) -> Response {
        let data_in = match cdb[0] {
            opcode::READ_6 => vec![0; capacity_in],
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

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let gigabytes: u64 = arguments.next().map_or(Ok(16), |text| text.parse())?;
    let block: usize = arguments
        .next()
        .map_or(Ok(512 << 10), |text| text.parse())?;
    let count = gigabytes * 1_000_000_000 / block as u64;
    println!("{gigabytes} GB each way, blocks of {block} bytes");

    let target = Arc::new(Mutex::new(NullMedium { buffer: Vec::new() }));
    let in_process = InProcess::new("null", Arc::clone(&target));
    measure(
        "in process",
        ScsiDrive::new(Box::new(in_process))?,
        block,
        count,
    )?;

    let socket = Socket(std::env::temp_dir().join(format!("taf-null-{}.sock", std::process::id())));
    let listener = UnixListener::bind(&socket.0)?;
    thread::spawn(move || serve(&listener, &target));
    let unix = Unix::connect(&socket.0)?;
    measure("unix socket", ScsiDrive::new(Box::new(unix))?, block, count)
}

/// The socket's file, gone when the program ends.
struct Socket(PathBuf);

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn measure(
    path: &str,
    mut drive: ScsiDrive,
    block: usize,
    count: u64,
) -> Result<(), Box<dyn Error>> {
    drive.prepare()?;
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
    println!(
        "{path:<12} write {written:7.2} GB/s   read {:7.2} GB/s",
        speed(block, count, start)
    );
    Ok(())
}

fn speed(block: usize, count: u64, start: Instant) -> f64 {
    block as f64 * count as f64 / start.elapsed().as_secs_f64() / 1e9
}
