//! What of a synthetic full has to wait on disk: members of archives as they were read, each with where it was, so that they can be
//! had in the order of the new archive.
//!
//! It is one file without a name, which goes with us. What of an archive follows each other on tape does so here: that is a *run*,
//! read from its beginning to its end like the tape itself, and needs no index. Only entries with several names can be asked
//! for out of order; those that were passed by are remembered one by one.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

/// Bytes before each member: tar offset, length, what it is.
const HEAD: usize = taf_proto::feed::SPOOL_HEAD as usize;
/// Its bytes could not be read; the reason is in their place.
const DAMAGED: u64 = 1;
/// It has several names.
const LINKED: u64 = 2;
/// Bytes moved at a time.
const BUFFER: usize = 256 << 10;

/// Members of one archive that follow each other.
#[derive(Debug, Clone, Copy)]
struct Run {
    /// Tar offset of the first one.
    first: u64,
    /// Tar offset of the last one.
    last: u64,
    /// Where it begins in the file.
    begin: u64,
    /// Where it ends.
    end: u64,
}

/// A member in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    tar_offset: u64,
    length: u64,
    flags: u64,
    /// Where its bytes begin.
    at: u64,
}

/// The file.
#[derive(Debug)]
pub struct Spool {
    file: Arc<File>,
    end: u64,
    runs: HashMap<u32, Vec<Run>>,
    buffer: Vec<u8>,
}

impl Spool {
    /// An empty one in this folder.
    ///
    /// # Errors
    /// The folder can't be written.
    pub fn new(folder: &Path) -> io::Result<Self> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(Self {
            file: Arc::new(File::from(file)),
            end: 0,
            runs: HashMap::new(),
            buffer: vec![0; BUFFER],
        })
    }

    /// Adds a member of an archive, as it comes from tape: `length` bytes, or as many as can be had.
    ///
    /// # Errors
    /// The disk. A source that fails is kept with the member.
    pub fn add(
        &mut self,
        ordinal: u32,
        tar_offset: u64,
        linked: bool,
        length: u64,
        source: &mut impl Read,
    ) -> io::Result<()> {
        let kept = self.keep(tar_offset, linked, length, source)?;
        let begin = kept.at - HEAD as u64;
        let runs = self.runs.entry(ordinal).or_default();
        match runs.last_mut() {
            Some(run) if run.end == begin && run.last < tar_offset => {
                run.last = tar_offset;
                run.end = self.end;
            }
            _ => runs.push(Run {
                first: tar_offset,
                last: tar_offset,
                begin,
                end: self.end,
            }),
        }
        Ok(())
    }

    /// Keeps a member that is remembered by whoever asks.
    ///
    /// # Errors
    /// The disk.
    pub fn keep(
        &mut self,
        tar_offset: u64,
        linked: bool,
        length: u64,
        source: &mut impl Read,
    ) -> io::Result<Kept> {
        let at = self.end + HEAD as u64;
        let flags = if linked { LINKED } else { 0 };
        let mut kept = Kept {
            tar_offset,
            length,
            flags,
            at,
        };
        let mut done = 0;
        while done < length {
            let room = self.buffer.len().min((length - done) as usize);
            match source.read(&mut self.buffer[..room]) {
                Ok(0) => {
                    kept.damage("its bytes end too early", &self.file)?;
                    break;
                }
                Ok(read) => {
                    self.file.write_all_at(&self.buffer[..read], at + done)?;
                    done += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    kept.damage(&error.to_string(), &self.file)?;
                    break;
                }
            }
        }
        let mut head = [0; HEAD];
        for (part, number) in head
            .chunks_exact_mut(8)
            .zip([tar_offset, kept.length, kept.flags])
        {
            part.copy_from_slice(&number.to_le_bytes());
        }
        self.file.write_all_at(&head, self.end)?;
        self.end = at + kept.length;
        Ok(kept)
    }

    /// What it has of an archive, to be read through.
    ///
    /// # Errors
    /// The disk.
    pub fn reel(&self, ordinal: u32) -> io::Result<Reel> {
        let mut runs = self.runs.get(&ordinal).cloned().unwrap_or_default();
        runs.sort_by_key(|run| run.first);
        let mut reel = Reel {
            file: Arc::clone(&self.file),
            runs: Vec::new(),
            at: 0,
            loose: HashMap::new(),
        };
        let mut reached = None;
        for run in runs {
            if reached.is_some_and(|reached| run.first <= reached) {
                // It lies within another one: what was late on tape.
                let mut at = run.begin;
                while at < run.end {
                    let kept = read_head(&self.file, at)?;
                    reel.loose.insert(kept.tar_offset, kept);
                    at = kept.at + kept.length;
                }
                continue;
            }
            reached = Some(run.last);
            reel.runs.push(run);
        }
        reel.runs.reverse();
        reel.at = reel.runs.last().map_or(0, |run| run.begin);
        Ok(reel)
    }

    /// The bytes of a member.
    ///
    /// # Errors
    /// Why it has none; or the disk.
    pub fn open(&self, kept: Kept) -> io::Result<Result<Box<dyn Read>, String>> {
        open(&self.file, kept)
    }
}

impl Kept {
    /// Its bytes can't be had, and this is why.
    fn damage(&mut self, why: &str, file: &File) -> io::Result<()> {
        file.write_all_at(why.as_bytes(), self.at)?;
        self.length = why.len() as u64;
        self.flags |= DAMAGED;
        Ok(())
    }

    /// Whether it has several names.
    pub fn is_linked(self) -> bool {
        self.flags & LINKED != 0
    }
}

/// What the spool has of one archive, in the order of its tape.
#[derive(Debug)]
pub struct Reel {
    file: Arc<File>,
    /// Those to come, the next one last.
    runs: Vec<Run>,
    /// Where the next member is, in the last of them.
    at: u64,
    /// Members with several names that were passed by, and those that were late on tape, by their tar offset.
    loose: HashMap<u64, Kept>,
}

impl Reel {
    /// The member at this offset, if there is one. What comes before it is passed by for good, unless it has several names.
    ///
    /// # Errors
    /// The disk.
    pub fn find(&mut self, tar_offset: u64) -> io::Result<Option<Kept>> {
        if let Some(kept) = self.loose.remove(&tar_offset) {
            return Ok(Some(kept));
        }
        while let Some(run) = self.runs.last() {
            if self.at >= run.end {
                self.runs.pop();
                self.at = self.runs.last().map_or(0, |run| run.begin);
                continue;
            }
            let kept = read_head(&self.file, self.at)?;
            if kept.tar_offset > tar_offset {
                return Ok(None);
            }
            self.at = kept.at + kept.length;
            if kept.tar_offset == tar_offset {
                return Ok(Some(kept));
            }
            if kept.is_linked() {
                self.loose.insert(kept.tar_offset, kept);
            }
        }
        Ok(None)
    }

    /// The bytes of a member; or why there are none.
    ///
    /// # Errors
    /// The disk.
    pub fn open(&self, kept: Kept) -> io::Result<Result<Box<dyn Read>, String>> {
        open(&self.file, kept)
    }
}

fn open(file: &Arc<File>, kept: Kept) -> io::Result<Result<Box<dyn Read>, String>> {
    let part = Part {
        file: Arc::clone(file),
        at: kept.at,
        left: kept.length,
    };
    if kept.flags & DAMAGED != 0 {
        let mut why = Vec::new();
        BufReader::new(part).read_to_end(&mut why)?;
        return Ok(Err(String::from_utf8_lossy(&why).into_owned()));
    }
    let room = BUFFER.min(usize::try_from(kept.length).unwrap_or(BUFFER));
    Ok(Ok(Box::new(BufReader::with_capacity(room.max(512), part))))
}

fn read_head(file: &File, at: u64) -> io::Result<Kept> {
    let mut head = [0; HEAD];
    file.read_exact_at(&mut head, at)?;
    let number = |from: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&head[from..from + 8]);
        u64::from_le_bytes(bytes)
    };
    Ok(Kept {
        tar_offset: number(0),
        length: number(8),
        flags: number(16),
        at: at + HEAD as u64,
    })
}

/// A stretch of the file.
struct Part {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.file.read_at(&mut buffer[..room], self.at)?;
        self.at += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A source that gives some bytes and then fails.
    struct Failing(&'static [u8]);

    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Err(io::Error::other("a bad block"));
            }
            self.0.read(buffer)
        }
    }

    fn spool() -> Spool {
        Spool::new(&std::env::temp_dir()).unwrap()
    }

    fn add(spool: &mut Spool, ordinal: u32, tar_offset: u64, linked: bool) {
        let bytes = format!("{ordinal}:{tar_offset}");
        let length = bytes.len() as u64;
        let mut source = bytes.as_bytes();
        spool
            .add(ordinal, tar_offset, linked, length, &mut source)
            .unwrap();
    }

    fn take(reel: &mut Reel, tar_offset: u64) -> Option<String> {
        let kept = reel.find(tar_offset).unwrap()?;
        let mut bytes = String::new();
        let opened = reel.open(kept).unwrap().unwrap();
        { opened }.read_to_string(&mut bytes).unwrap();
        Some(bytes)
    }

    #[test]
    fn each_archive_is_read_through_in_the_order_of_its_tape() {
        let mut spool = spool();
        for (ordinal, offset) in [(2, 0), (2, 512), (3, 0), (2, 1024), (3, 4096), (2, 2048)] {
            add(&mut spool, ordinal, offset, false);
        }
        let (mut two, mut three) = (spool.reel(2).unwrap(), spool.reel(3).unwrap());
        assert_eq!(take(&mut two, 0).unwrap(), "2:0");
        assert_eq!(take(&mut three, 4096).unwrap(), "3:4096");
        assert_eq!(take(&mut two, 1024).unwrap(), "2:1024");
        assert_eq!(take(&mut two, 512), None, "passed by");
        assert_eq!(take(&mut two, 1536), None, "never there");
        assert_eq!(take(&mut two, 2048).unwrap(), "2:2048");
        assert_eq!(take(&mut two, 9999), None);
        assert_eq!(take(&mut spool.reel(4).unwrap(), 0), None);
    }

    #[test]
    fn what_has_several_names_is_found_also_when_it_was_passed_by() {
        let mut spool = spool();
        add(&mut spool, 1, 0, true);
        add(&mut spool, 1, 512, false);
        add(&mut spool, 1, 1024, true);
        let mut reel = spool.reel(1).unwrap();
        assert_eq!(take(&mut reel, 1024).unwrap(), "1:1024");
        assert_eq!(take(&mut reel, 0).unwrap(), "1:0");
        assert_eq!(take(&mut reel, 512), None);
    }

    #[test]
    fn what_came_late_or_from_a_later_volume_first_is_in_its_place() {
        let mut spool = spool();
        for offset in [2048, 4096, 0, 512, 3072] {
            add(&mut spool, 1, offset, false);
        }
        let mut reel = spool.reel(1).unwrap();
        for offset in [0, 512, 2048, 3072, 4096] {
            let expected = format!("1:{offset}");
            assert_eq!(take(&mut reel, offset), Some(expected));
        }
    }

    #[test]
    fn damage_is_kept_with_its_member_and_harms_no_other() {
        let mut spool = spool();
        add(&mut spool, 1, 0, false);
        spool
            .add(1, 512, false, 4000, &mut Failing(&[7; 1000]))
            .unwrap();
        spool.add(1, 4608, false, 10, &mut &b"short"[..]).unwrap();
        add(&mut spool, 1, 5120, false);
        let mut reel = spool.reel(1).unwrap();
        assert_eq!(take(&mut reel, 0).unwrap(), "1:0");
        let why = |reel: &mut Reel, offset| {
            let kept = reel.find(offset).unwrap().unwrap();
            reel.open(kept).unwrap().err()
        };
        assert_eq!(why(&mut reel, 512).unwrap(), "a bad block");
        assert_eq!(why(&mut reel, 4608).unwrap(), "its bytes end too early");
        assert_eq!(take(&mut reel, 5120).unwrap(), "1:5120");
    }
}
