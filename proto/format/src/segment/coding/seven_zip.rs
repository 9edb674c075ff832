//! A segment as a 7z archive of one file.

use std::io::{self, Cursor};

use sevenz_rust2::encoder_options::Lzma2Options;
use sevenz_rust2::{ArchiveEntry, ArchiveReader, ArchiveWriter, EncoderMethod, Password};

use crate::limits;

/// Name of the file.
const NAME: &str = "tar";
/// KiB that reading one may take: its dictionary is as large as a segment.
const MEMORY: usize = 64 << 10;

/// Packs by LZMA2.
pub(super) struct Packer(u32);

impl Packer {
    pub(super) fn new(level: i32) -> Self {
        Self(level.clamp(1, 9) as u32)
    }

    pub(super) fn pack(&self, tar: &[u8]) -> io::Result<Vec<u8>> {
        let mut options = Lzma2Options::from_level(self.0);
        // As the level has it, but not larger than what there is: the encoder makes and clears tables of that size.
        let dictionary = limits::SEGMENT_TAR >> 3_u32.saturating_sub(self.0);
        // A power of two: of others 7z is told a smaller one.
        let enough = tar.len().next_power_of_two().max(4096);
        options.set_dictionary_size(enough.min(dictionary) as u32);
        let mut writer = ArchiveWriter::new(Cursor::new(Vec::new())).map_err(io::Error::other)?;
        let method = sevenz_rust2::EncoderConfiguration::new(EncoderMethod::LZMA2)
            .with_options(options.into());
        writer.set_content_methods(vec![method]);
        let entry = ArchiveEntry::new_file(NAME);
        writer
            .push_archive_entry(entry, Some(tar))
            .map_err(io::Error::other)?;
        Ok(writer.finish()?.into_inner())
    }
}

/// The one file of an archive, which must have `length` bytes, not 0; or what is wrong.
pub(super) fn unpack(archive: &[u8], length: usize) -> Result<Vec<u8>, &'static str> {
    const WRONG: &str = "its 7z archive cannot be unpacked";
    let mut reader =
        ArchiveReader::new_with_memory_limit(Cursor::new(archive), Password::empty(), MEMORY)
            .map_err(|_| WRONG)?;
    reader.set_thread_count(1);
    let [entry] = &reader.archive().files[..] else {
        return Err("its 7z archive does not hold one file");
    };
    if entry.name() != NAME || entry.size() != length as u64 {
        return Err("its 7z archive holds another file");
    }
    let tar = reader.read_file(NAME).map_err(|_| WRONG)?;
    if tar.len() != length {
        return Err("its 7z archive gives another size");
    }
    Ok(tar)
}
