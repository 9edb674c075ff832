//! How fast blocks go over the unix socket onto a cartridge and back: `speed DIR [GIGABYTES]`.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use taf_emulator::library::{self, Library, NewCartridge, Spec};
use taf_emulator::server;
use taf_scsi::cdb;
use taf_scsi::status;
use taf_scsi::transport::{Data, open};

const BLOCK: usize = 512 << 10;
const TIMEOUT: Duration = Duration::from_mins(1);

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let dir = PathBuf::from(
        arguments
            .next()
            .context("give a folder for a new library")?,
    );
    let gigabytes: u64 = match arguments.next() {
        Some(text) => text.to_str().context("give a number")?.parse()?,
        None => 4,
    };
    let bytes = gigabytes * 1_000_000_000;
    Library::create(&dir, &Spec::new(1, 1, 2 * bytes))?;
    library::add(&dir, "SPEED1L8", &NewCartridge::default())?;
    let library = Library::open(&dir)?;
    let served = server::serve(&library)?;
    let mut changer = open(&served[0].device)?;
    let mut drive = open(&served[1].device)?;
    for unit in [&mut changer, &mut drive] {
        while unit
            .execute(&cdb::test_unit_ready(), Data::None, TIMEOUT)?
            .sense
            .get(2)
            == Some(&0x06)
        {}
    }
    changer.execute(&cdb::move_medium(0, 1024, 256), Data::None, TIMEOUT)?;
    drive.execute(&cdb::test_unit_ready(), Data::None, TIMEOUT)?;

    let count = bytes / BLOCK as u64;
    let mut block: Vec<u8> = (0..BLOCK).map(|at| (at * 31) as u8).collect();
    let start = Instant::now();
    for _ in 0..count {
        let done = drive.execute(&cdb::write_6(BLOCK as u32), Data::Out(&block), TIMEOUT)?;
        ensure!(done.status == status::GOOD, "write: {:02x?}", done.sense);
    }
    drive.execute(&cdb::write_filemarks_6(1, false), Data::None, TIMEOUT)?;
    report("write", bytes, start);

    drive.execute(&cdb::rewind(), Data::None, TIMEOUT)?;
    let start = Instant::now();
    for _ in 0..count {
        let cdb = cdb::read_6(BLOCK as u32, true);
        let done = drive.execute(&cdb, Data::In(&mut block), TIMEOUT)?;
        ensure!(done.status == status::GOOD, "read: {:02x?}", done.sense);
    }
    report("read", bytes, start);
    Ok(())
}

fn report(what: &str, bytes: u64, start: Instant) {
    let speed = bytes as f64 / start.elapsed().as_secs_f64() / 1e6;
    println!("{what} {speed:.0} MB/s");
}
