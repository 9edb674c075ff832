//! Roads back without the catalog: the standard tools with what the first blocks say, and TAF with nothing but cartridges.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::said::{number, objects};
use crate::system::System;

/// A tape file: barcode and number.
pub type TapeFile = (String, u64);

/// The tape files of a version in the archive's order. `volumes` are those of the version, in order.
pub fn tape_files(system: &System, version: &str, volumes: &[String]) -> Result<Vec<TapeFile>> {
    let mut files = Vec::new();
    for barcode in volumes {
        let volume = system.json(&["volume", "show", barcode])?;
        let mut numbers: Vec<u64> = objects(&volume, "number")
            .into_iter()
            .filter(|file| file["kind"] == "part" && file["version"] == version)
            .map(|file| number(&file["number"]))
            .collect();
        numbers.sort_unstable();
        files.extend(numbers.into_iter().map(|number| (barcode.clone(), number)));
    }
    Ok(files)
}

/// The bytes of a tape file, as a command.
fn cat(system: &System, (barcode, file): &TapeFile) -> String {
    let cartridge = system.cartridge(barcode);
    format!("taf tape cat '{}' {file}", cartridge.display())
}

/// The text of a part's first block.
pub fn block0(system: &System, file: &TapeFile) -> Result<String> {
    let scratch = tempfile::tempdir()?;
    // What goes on behind the head is no fault.
    let line = format!("{} > part; head -c 60000 part", cat(system, file));
    Ok(system.shell(scratch.path(), &line)?.expect(0)?.text())
}

/// What a first block says under a key.
pub fn field(text: &str, key: &str) -> Option<String> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))?;
    Some(value.to_owned())
}

/// Unpacks parts, which are all of an archive, into a folder: `tape cat` instead of `mt` and `dd`, into what the first blocks
/// say, `head -c` included. Gives how many parts were cut off.
pub fn unpack(system: &System, files: &[TapeFile], folder: &Path) -> Result<usize> {
    let (line, cut) = line(system, files)?;
    println!("{line}");
    system.shell(folder, &line)?.expect(0)?;
    Ok(cut)
}

/// The command for [`unpack`], and how many parts were cut off.
pub fn line(system: &System, files: &[TapeFile]) -> Result<(String, usize)> {
    let mut cut = 0;
    let mut pieces = Vec::new();
    for (index, file) in files.iter().enumerate() {
        let counted = match files.get(index + 1) {
            Some(next) => field(&block0(system, next)?, "Predecessor-bytes"),
            None => None,
        };
        cut += usize::from(counted.is_some());
        let all = cat(system, file);
        pieces.push(counted.map_or(all.clone(), |bytes| format!("{all} | head -c {bytes}")));
    }
    let Some(first) = files.first() else {
        bail!("there are no parts");
    };
    let filter = field(&block0(system, first)?, "Filter").context("block 0 has no filter")?;
    Ok((format!("({}) | {filter}", pieces.join("; ")), cut))
}

/// Whether a program is installed.
pub fn has(system: &System, program: &str) -> bool {
    let said = system.shell(Path::new("/"), &format!("command -v {program}"));
    said.is_ok_and(|said| said.status == Some(0))
}

/// `taf tape extract` of cartridges, given in any order, into a folder: the archive of this uuid, or the `latest`.
pub fn extract(system: &System, volumes: &[String], archive: &str, folder: &Path) -> Result<()> {
    let to = folder.display().to_string();
    let cartridges: Vec<String> = volumes
        .iter()
        .map(|barcode| system.cartridge(barcode).display().to_string())
        .collect();
    let (first, further) = cartridges
        .split_first()
        .context("there are no cartridges")?;
    let mut arguments = vec!["tape", "extract", first, "--to", &to, "--archive", archive];
    for further in further {
        arguments.extend(["--next", further]);
    }
    system.taf(&arguments)?.expect(0)?;
    Ok(())
}
