//! Reading on, around what can't be read: the one rule for it, whoever reads.
//!
//! A block that fails is tried again. Then the drive is sent behind it, at distances that grow, to where it can read again,
//! and back to where that begins; what was passed over on the way is tried once, block by block, as long as that has any
//! prospect. So damage costs what it touches, and a drive that takes a minute to give up on a block is not asked for all of them.
//!
//! News of the drive mean that its command did not run and that it may hold another cartridge, so the caller proves the volume
//! again before reading goes on. Reading twice does no harm.

use std::collections::BTreeSet;

use crate::{Drive, Error, Read};

/// A block that can't be read is tried so often in all.
const TRIES: u32 = 3;
/// After so many failures without a success between them, each block is tried once and what lies within damage not at all:
/// a drive takes a minute to give up on one.
const PATIENT: u32 = 32;
/// The largest distance at which the end of damage is sought, in blocks.
const DISTANCE_MAX: u64 = 16;
/// After so many failures without a success between them the tape is given up.
pub const FAILURES_MAX: u32 = 1_000;
/// Resets and other news of the drive that one reading outlives.
const NEWS_MAX: u32 = 8;

/// What is sought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sought {
    /// Blocks that are known to be there: a filemark or an end of data in their place is a loss, too.
    Blocks,
    /// Whatever is recorded.
    Objects,
}

/// What came of a place on the tape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It was read.
    Read(Read),
    /// Of [`Sought::Objects`]: a block of this many bytes, which are more than the buffer holds.
    Longer(u64),
    /// It is lost: why.
    Lost(String),
}

/// Why reading ends.
#[derive(Debug)]
pub enum Stop<E> {
    /// The drive failed.
    Drive(Error),
    /// So much in a row can't be read that there is no hope.
    Hopeless {
        /// How many failed.
        failures: u32,
        /// The last of them.
        block: u64,
        /// Why.
        reason: String,
    },
    /// The volume could not be proved again.
    Prove(E),
}

/// Proves again, after this news of the drive, that it holds the volume, and sets it up.
pub type Prove<'a, E> = &'a (dyn Fn(&mut dyn Drive, &Error) -> Result<(), E> + Sync);

/// How a reading stands. Drive and buffer are its caller's, who says by [`Course::stands_at`] where else the drive was sent.
pub struct Course<'a, E> {
    sought: Sought,
    prove: Prove<'a, E>,
    /// Object that the tape stands before, if known.
    at: Option<u64>,
    damage: Option<Damage>,
    /// Failures since the last success.
    failures: u32,
    news: u32,
    ended: Option<u64>,
}

/// A stretch that begins with a block that can't be read.
struct Damage {
    /// Blocks that were tried in vain.
    bad: BTreeSet<u64>,
    /// The first block behind that could be read, or the end of what is sought.
    good: u64,
    reason: String,
}

impl<'a, E> Course<'a, E> {
    /// Of a volume that is proved.
    pub fn new(sought: Sought, prove: Prove<'a, E>) -> Self {
        Self {
            sought,
            prove,
            at: None,
            damage: None,
            failures: 0,
            news: 0,
            ended: None,
        }
    }

    /// The first object that was sought behind the end of data.
    pub fn ended(&self) -> Option<u64> {
        self.ended
    }

    /// What comes next may lie anywhere: what is known of damage holds no longer.
    pub fn forget_damage(&mut self) {
        self.damage = None;
    }

    /// The caller has sent the tape here, or nobody knows where.
    pub fn stands_at(&mut self, object: Option<u64>) {
        self.at = object;
    }

    /// Reads one object into the buffer, as part of a reading that goes on to `end` at most.
    pub fn read(
        &mut self,
        drive: &mut dyn Drive,
        buffer: &mut [u8],
        block: u64,
        end: u64,
    ) -> Result<Found, Stop<E>> {
        let patient = self.failures < PATIENT;
        let within = self.damage.take_if(|damage| block < damage.good);
        let Some(damage) = within else {
            self.damage = None;
            let tries = if patient { TRIES } else { 1 };
            let found = self.fetch(drive, buffer, block, tries)?;
            if let Found::Lost(reason) = &found {
                self.damage = Some(self.search(drive, buffer, block, end, reason)?);
            }
            return Ok(found);
        };
        let found = if damage.bad.contains(&block) || !patient {
            Found::Lost(damage.reason.clone())
        } else {
            self.fetch(drive, buffer, block, 1)?
        };
        self.damage = Some(damage);
        Ok(found)
    }

    /// Looks behind a bad block for the first one that can be read.
    fn search(
        &mut self,
        drive: &mut dyn Drive,
        buffer: &mut [u8],
        bad: u64,
        end: u64,
        reason: &str,
    ) -> Result<Damage, Stop<E>> {
        let mut damage = Damage {
            bad: BTreeSet::from([bad]),
            good: end,
            reason: reason.to_owned(),
        };
        let (mut last_bad, mut distance) = (bad, 1);
        while last_bad + 1 < end {
            let next = (last_bad + distance).min(end - 1);
            if !is_lost(&self.fetch(drive, buffer, next, 1)?) {
                damage.good = next;
                break;
            }
            damage.bad.insert(next);
            last_bad = next;
            distance = (distance * 2).min(DISTANCE_MAX);
        }
        while damage.good < end && damage.good - last_bad > 1 {
            let middle = last_bad + (damage.good - last_bad) / 2;
            if is_lost(&self.fetch(drive, buffer, middle, 1)?) {
                damage.bad.insert(middle);
                last_bad = middle;
            } else {
                damage.good = middle;
            }
        }
        Ok(damage)
    }

    fn fetch(
        &mut self,
        drive: &mut dyn Drive,
        buffer: &mut [u8],
        block: u64,
        tries: u32,
    ) -> Result<Found, Stop<E>> {
        let mut reason = String::new();
        for _ in 0..tries {
            match self.try_once(drive, buffer, block)? {
                Found::Lost(why) => reason = why,
                found => {
                    self.at = match found {
                        Found::Read(Read::EndOfData | Read::Blank) => None,
                        _ => Some(block + 1),
                    };
                    self.failures = 0;
                    return Ok(found);
                }
            }
        }
        self.failures += 1;
        if self.failures >= FAILURES_MAX {
            return Err(Stop::Hopeless {
                failures: FAILURES_MAX,
                block,
                reason,
            });
        }
        Ok(Found::Lost(reason))
    }

    fn try_once(
        &mut self,
        drive: &mut dyn Drive,
        buffer: &mut [u8],
        block: u64,
    ) -> Result<Found, Stop<E>> {
        loop {
            let went = self.go(drive, block);
            if let (Err(Error::BlankCheck(_)), Sought::Objects) = (&went, self.sought) {
                // There is no such object.
                return Ok(self.judge(Read::EndOfData, block));
            }
            let outcome = went.and_then(|()| {
                self.at = None;
                drive.read_block(buffer)
            });
            let error = match (outcome, self.sought) {
                (Ok(read), _) => return Ok(self.judge(read, block)),
                (Err(Error::BlockTooLarge { length, .. }), Sought::Objects) => {
                    return Ok(Found::Longer(length));
                }
                (Err(error), _) => error,
            };
            self.at = None;
            match error {
                Error::Medium(_)
                | Error::BlankCheck(_)
                | Error::BlockTooLarge { .. }
                | Error::Encrypted(_)
                | Error::PositionUnknown
                | Error::Other(_) => return Ok(Found::Lost(error.to_string())),
                Error::UnitAttention(_) if self.news < NEWS_MAX => {
                    self.news += 1;
                    tracing::warn!(%error, "the volume is proved again");
                    (self.prove)(drive, &error).map_err(Stop::Prove)?;
                }
                error => return Err(Stop::Drive(error)),
            }
        }
    }

    fn judge(&mut self, read: Read, block: u64) -> Found {
        if let Read::EndOfData | Read::Blank = read {
            self.ended.get_or_insert(block);
        }
        match (read, self.sought) {
            (Read::Block(_), _) | (_, Sought::Objects) => Found::Read(read),
            (Read::Filemark, Sought::Blocks) => {
                Found::Lost(format!("there is a filemark instead of block {block}"))
            }
            (Read::EndOfData | Read::Blank, Sought::Blocks) => {
                Found::Lost("the tape ends before it".to_owned())
            }
        }
    }

    /// Goes to a block. Behind a failure the drive has to say that it is there: some stop elsewhere.
    fn go(&mut self, drive: &mut dyn Drive, block: u64) -> Result<(), Error> {
        if self.at == Some(block) {
            return Ok(());
        }
        self.at = None;
        drive.locate(block)?;
        if self.failures == 0 {
            return Ok(());
        }
        match drive.position() {
            Ok(position) if position.block != block => Err(Error::PositionUnknown),
            Ok(_) | Err(Error::PositionUnknown) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn is_lost(found: &Found) -> bool {
    matches!(found, Found::Lost(_))
}
