//! A kernel for tests: what `drivers/scsi/st.c` does with a variable-length medium, its quirks above all, and faults where a test
//! wants them. The real one is in the guest (tests/tests/conformance.rs).

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use nix::errno::Errno;

use super::super::tape::{Motion, Road, Status, Tape};
use crate::Error;
use crate::outcome::BlockLimits;

/// Longest block.
pub(super) const LONGEST: usize = 4096;

/// What `st` remembers of the last thing that it met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Met {
    #[default]
    Nothing,
    Filemark,
    /// Early warning, told to the writer by the next write.
    Warning,
    /// It was told; the next write is sent.
    Told,
    End,
}

/// Medium, drive and kernel in one.
#[derive(Debug, Clone, Default)]
#[allow(clippy::struct_excessive_bools)] // independent facts
pub(super) struct State {
    /// Blocks, and filemarks (`None`).
    pub objects: Vec<Option<Vec<u8>>>,
    pub at: usize,
    /// Objects before early warning, and before the hard end.
    pub warns_at: Option<usize>,
    pub ends_at: Option<usize>,
    /// This object can't be read.
    pub bad: Option<usize>,
    /// Writing this object fails, and what of those before it that were not flushed is gone down to here.
    pub breaks: Option<(usize, usize)>,
    /// The drive does not know READ POSITION.
    pub mute: bool,
    /// The end of data can't be found.
    pub endless: bool,
    /// The drive was reset, and `st` has lost its place.
    pub lost: bool,
    pub protected: bool,
    pub empty: bool,
    /// What happened, in words.
    pub events: Vec<String>,
    /// Filemarks that `st` wrote by itself.
    pub automatic: usize,
    writing: bool,
    met: Met,
    /// Counted from the beginning, as long as it knows.
    file: Option<u64>,
}

impl State {
    fn write(&mut self, object: Option<Vec<u8>>) -> io::Result<()> {
        if let Some((place, left)) = self.breaks.filter(|&(place, _)| place == self.at) {
            self.breaks = None;
            let left = left.min(place);
            self.objects.truncate(left);
            self.at = left;
            return Err(number(Errno::EIO));
        }
        if self.ends_at.is_some_and(|end| self.at >= end) {
            self.met = Met::Warning;
            return Err(number(Errno::ENOSPC));
        }
        self.objects.truncate(self.at);
        self.objects.push(object);
        self.at += 1;
        Ok(())
    }

    fn count(&mut self, marks: i64) {
        self.file = self.file.and_then(|file| file.checked_add_signed(marks));
    }

    fn warns(&self) -> bool {
        self.warns_at.is_some_and(|place| self.at > place)
    }

    fn marks(&mut self, count: u32) -> io::Result<()> {
        self.writing = false;
        for _ in 0..count {
            self.write(None).map_err(|_| number(Errno::EIO))?;
            self.count(1);
        }
        self.met = Met::Nothing;
        Ok(())
    }

    /// Closing, rewinding and seeking behind a write.
    fn automatic_mark(&mut self) {
        if self.writing && !self.lost {
            self.automatic += 1;
            let _ = self.marks(1);
        }
        self.writing = false;
    }

    fn space(&mut self, forward: bool, blocks: bool, count: u32) -> io::Result<()> {
        self.met = Met::Nothing;
        let mut left = count;
        while left > 0 {
            if forward && self.at >= self.objects.len() {
                self.met = Met::End;
                return Err(number(Errno::EIO));
            }
            if !forward && self.at == 0 {
                return Err(number(Errno::EIO));
            }
            if !forward {
                self.at -= 1;
            }
            let mark = self.objects[self.at].is_none();
            if forward {
                self.at += 1;
            }
            if mark && forward {
                self.count(1);
                self.met = Met::Filemark;
            } else if mark {
                self.count(-1);
            }
            if mark && blocks {
                return Err(number(Errno::EIO));
            }
            left -= u32::from(blocks || mark);
        }
        Ok(())
    }
}

fn number(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno as i32)
}

/// The kernel, shared by whoever opens the device.
#[derive(Debug, Clone, Default)]
pub(super) struct Kernel(Arc<Mutex<State>>);

impl Kernel {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// What happened since the last question.
    pub(super) fn events(&self) -> Vec<String> {
        std::mem::take(&mut self.state().events)
    }
}

impl Road for Kernel {
    fn open(&mut self) -> Result<Box<dyn Tape>, Error> {
        let mut state = self.state();
        // It takes the drive's news.
        state.lost = false;
        state.events.push("open".to_owned());
        Ok(Box::new(Open(self.clone())))
    }

    fn measure(&mut self) -> Result<BlockLimits, Error> {
        Ok(BlockLimits {
            min: 1,
            max: LONGEST,
        })
    }
}

struct Open(Kernel);

impl Drop for Open {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.automatic_mark();
        state.events.push("close".to_owned());
    }
}

impl Tape for Open {
    fn run(&self, motion: Motion) -> io::Result<()> {
        let mut state = self.0.state();
        state.events.push(format!("{motion:?}"));
        let finds_its_place = matches!(
            motion,
            Motion::Rewind | Motion::Seek(_) | Motion::EndOfData | Motion::Options
        );
        if state.lost && !finds_its_place {
            return Err(number(Errno::EIO));
        }
        if matches!(
            motion,
            Motion::Rewind | Motion::Seek(_) | Motion::BackwardFiles(_)
        ) {
            state.automatic_mark();
        }
        if !matches!(
            motion,
            Motion::BlockLength(_) | Motion::Buffered | Motion::Options
        ) {
            state.writing = false;
        }
        match motion {
            Motion::ForwardFiles(count) => state.space(true, false, count),
            Motion::BackwardFiles(count) => state.space(false, false, count),
            Motion::ForwardBlocks(count) => state.space(true, true, count),
            Motion::BackwardBlocks(count) => state.space(false, true, count),
            Motion::Mark(count) | Motion::MarkAtOnce(count) => state.marks(count),
            Motion::Rewind => {
                (state.at, state.file, state.met, state.lost) = (0, Some(0), Met::Nothing, false);
                Ok(())
            }
            Motion::EndOfData if state.endless => Err(number(Errno::EIO)),
            Motion::EndOfData => {
                (state.at, state.met, state.lost) = (state.objects.len(), Met::End, false);
                state.file = None;
                Ok(())
            }
            Motion::Seek(_) if state.mute => Err(number(Errno::EIO)),
            Motion::Seek(object) => {
                let object = object as usize;
                state.at = object.min(state.objects.len());
                (state.met, state.lost) = (Met::Nothing, false);
                state.file = None;
                if object > state.objects.len() {
                    return Err(number(Errno::EIO));
                }
                Ok(())
            }
            Motion::BlockLength(_)
            | Motion::Buffered
            | Motion::Options
            | Motion::Nothing
            | Motion::Lock
            | Motion::Unlock => Ok(()),
        }
    }

    fn status(&self) -> io::Result<Status> {
        let state = self.0.state();
        if state.lost {
            return Err(number(Errno::EIO));
        }
        Ok(Status {
            online: !state.empty,
            no_medium: state.empty,
            write_protected: state.protected,
            filemark: state.met == Met::Filemark,
            beginning: state.at == 0,
            end_of_medium: state.met == Met::Warning,
            end_of_data: matches!(state.met, Met::End | Met::Told),
            buffered: true,
            density: 0x5e,
            file: state.file,
            ..Status::default()
        })
    }

    fn tell(&self) -> io::Result<u64> {
        let mut state = self.0.state();
        state.events.push("tell".to_owned());
        if state.mute {
            return Err(number(Errno::EIO));
        }
        Ok(state.at as u64)
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.0.state();
        if state.empty {
            return Err(number(Errno::ENOMEDIUM));
        }
        if state.lost || state.met == Met::End || state.bad == Some(state.at) {
            return Err(number(Errno::EIO));
        }
        let behind_mark = state.met == Met::Filemark;
        let object = state.objects.get(state.at).cloned();
        match object {
            None if behind_mark => {
                state.met = Met::End;
                Ok(0)
            }
            None => Err(number(Errno::EIO)),
            Some(None) => {
                state.at += 1;
                state.count(1);
                state.met = Met::Filemark;
                Ok(0)
            }
            Some(Some(block)) => {
                state.at += 1;
                state.met = Met::Nothing;
                let room = buffer
                    .get_mut(..block.len())
                    .ok_or_else(|| number(Errno::ENOMEM))?;
                room.copy_from_slice(&block);
                Ok(block.len())
            }
        }
    }

    fn write(&self, block: &[u8]) -> io::Result<usize> {
        let mut state = self.0.state();
        if state.lost {
            return Err(number(Errno::EIO));
        }
        if state.protected {
            return Err(number(Errno::EACCES));
        }
        if state.met == Met::Warning {
            state.met = Met::Told;
            return Err(number(Errno::ENOSPC));
        }
        state.writing = true;
        state.write(Some(block.to_vec()))?;
        state.met = if state.warns() || state.met == Met::Told {
            Met::Warning
        } else {
            Met::Nothing
        };
        Ok(block.len())
    }
}
