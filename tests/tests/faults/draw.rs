//! What a run is made under, and what goes wrong in it, by chance.

use std::fmt;
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use taf_emulator::control::Order;
use taf_emulator::faults::{At, Do, Fault};
use taf_scsi::cdb::opcode;
use taf_scsi::sense::Key;
use taf_tests::system::Process;

const MB: usize = 1_000_000;
/// Where a volume's own blocks end and parts begin, about.
const LABEL: u64 = 4;

/// What a run is made under.
#[derive(Debug)]
pub struct Terms {
    /// From early warning to the hard end, bytes: a library's matter.
    pub distance: usize,
    /// Bytes of a cartridge.
    pub capacity: usize,
    /// Bytes of the tree.
    pub tree: usize,
    pub block: usize,
    pub part: &'static str,
    /// What goes wrong while the backup is made.
    pub writing: Vec<Trouble>,
    /// And while it is restored.
    pub reading: Vec<Trouble>,
}

/// The distances from early warning to the hard end: none, less than a block, some blocks.
pub const DISTANCES: [usize; 3] = [0, 50_000, 2 * MB];

impl Terms {
    pub fn draw(dice: &mut StdRng) -> Self {
        let of = |dice: &mut StdRng, list: &[usize]| *list.choose(dice).unwrap();
        let distance = of(dice, &DISTANCES);
        let capacity = of(dice, &[12 * MB, 16 * MB, 40 * MB]);
        let block = of(dice, &[64 << 10, 128 << 10, 512 << 10]);
        let objects = (capacity / block) as u64;
        let some = |dice: &mut StdRng, most: usize, one: &dyn Fn(&mut StdRng, u64) -> Trouble| {
            let count = dice.random_range(0..=most);
            (0..count).map(|_| one(dice, objects)).collect::<Vec<_>>()
        };
        let writing = some(dice, 3, &writing);
        let mut reading = some(dice, 3, &reading);
        if writing.is_empty() && reading.is_empty() {
            reading.push(self::reading(dice, objects));
        }
        Self {
            distance,
            capacity,
            tree: of(dice, &[9 * MB, 20 * MB, 26 * MB]),
            block,
            part: ["16MiB", "32MiB", "1GiB"].choose(dice).unwrap(),
            writing,
            reading,
        }
    }
}

/// What goes wrong.
#[derive(Debug, Clone)]
pub enum Trouble {
    /// By the emulator's script.
    Fault(Box<Fault>),
    /// A process dies so long after bytes began to flow.
    Kill(Process, Duration),
    /// Something happens to the drive then.
    Order(Order, Duration),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault) => {
                let text = fault.to_text();
                let words: Vec<String> =
                    text.lines().map(|line| line.replace(" = ", "=")).collect();
                write!(f, "{}", words.join(" "))
            }
            Self::Kill(process, after) => write!(f, "{process:?} dies after {after:?}"),
            Self::Order(order, after) => write!(f, "{order:?} after {after:?}"),
        }
    }
}

fn fault(fault: Fault) -> Trouble {
    Trouble::Fault(Box::new(fault))
}

/// Sense that ends or disturbs any command.
fn sense(dice: &mut StdRng, at: At) -> Fault {
    const ALL: [(Key, (u8, u8)); 12] = [
        (Key::NotReady, (0x04, 0x01)),
        (Key::NotReady, (0x04, 0x00)),
        (Key::MediumError, (0x0c, 0x00)),
        (Key::MediumError, (0x11, 0x00)),
        (Key::MediumError, (0x30, 0x00)),
        (Key::HardwareError, (0x44, 0x00)),
        (Key::HardwareError, (0x15, 0x01)),
        (Key::IllegalRequest, (0x20, 0x00)),
        (Key::UnitAttention, (0x29, 0x00)),
        (Key::UnitAttention, (0x28, 0x00)),
        (Key::AbortedCommand, (0x4b, 0x00)),
        (Key::RecoveredError, (0x17, 0x01)),
    ];
    let (key, code) = *ALL.choose(dice).unwrap();
    Fault {
        descriptors: dice.random_bool(0.3),
        ..Fault::sense(at, key, code)
    }
}

/// A moment: a logical object, the n-th time that something is done, or a time.
fn moment(dice: &mut StdRng, fault: Fault, objects: u64) -> Fault {
    match dice.random_range(0..4) {
        0 => Fault {
            after_ms: dice.random_range(0..3000),
            ..fault
        },
        1 => Fault {
            nth: dice.random_range(1..200),
            ..fault
        },
        _ => Fault {
            object: Some(dice.random_range(LABEL..objects.max(LABEL + 2))),
            ..fault
        },
    }
}

/// What breaks a connection or the drive's power, or is only a nuisance.
fn upset(dice: &mut StdRng) -> Do {
    *[
        Do::Hang,
        Do::HangAfter,
        Do::HangUntilReleased,
        Do::DropBefore,
        Do::DropAfter,
        Do::Busy,
        Do::TaskSetFull,
        Do::ReservationConflict,
        Do::PowerCut,
        Do::Reset,
    ]
    .choose(dice)
    .unwrap()
}

fn command(dice: &mut StdRng, own: u8) -> Fault {
    const OTHERS: [u8; 14] = [
        opcode::TEST_UNIT_READY,
        opcode::REWIND,
        opcode::READ_BLOCK_LIMITS,
        opcode::MODE_SENSE_6,
        opcode::MODE_SENSE_10,
        opcode::MODE_SELECT_10,
        opcode::LOAD_UNLOAD,
        opcode::PREVENT_ALLOW_MEDIUM_REMOVAL,
        opcode::READ_POSITION,
        opcode::LOG_SENSE,
        opcode::READ_ATTRIBUTE,
        opcode::WRITE_ATTRIBUTE,
        opcode::LOCATE_16,
        opcode::PERSISTENT_RESERVE_OUT,
    ];
    let own_times = dice.random_bool(0.3);
    Fault {
        opcode: Some(if own_times {
            own
        } else {
            *OTHERS.choose(dice).unwrap()
        }),
        nth: dice.random_range(1..if own_times { 60 } else { 12 }),
        ..Fault::default()
    }
}

fn death(dice: &mut StdRng) -> Trouble {
    Trouble::Kill(
        *Process::ALL.choose(dice).unwrap(),
        Duration::from_millis(dice.random_range(0..1500)),
    )
}

/// What goes wrong with a drive as a whole.
fn blow(dice: &mut StdRng) -> Trouble {
    let drive = dice.random_range(0..2).to_string();
    let order = if dice.random_bool(0.5) {
        Order::Reset { drive }
    } else {
        Order::PowerCut { drive, keep: None }
    };
    Trouble::Order(order, Duration::from_millis(dice.random_range(0..1500)))
}

/// What may go wrong whatever is done: mounting, moving, any command, any process.
fn common(dice: &mut StdRng, own: u8) -> Trouble {
    match dice.random_range(0..8) {
        0 => death(dice),
        1 => blow(dice),
        2 => fault(Fault {
            nth: dice.random_range(1..4),
            ..sense(dice, At::Load)
        }),
        3 => fault(Fault {
            nth: dice.random_range(1..5),
            ..sense(dice, At::Move)
        }),
        4 => fault(Fault {
            nth: dice.random_range(1..8),
            ..sense(dice, At::Position)
        }),
        5 => {
            let of = command(dice, own);
            fault(Fault {
                opcode: of.opcode,
                nth: of.nth,
                ..sense(dice, At::Command)
            })
        }
        6 => {
            let of = command(dice, own);
            fault(Fault {
                action: upset(dice),
                times: dice.random_range(1..4),
                ..of
            })
        }
        _ => fault(Fault {
            after_ms: dice.random_range(0..4000),
            ..sense(dice, At::Command)
        }),
    }
}

fn writing(dice: &mut StdRng, objects: u64) -> Trouble {
    let bad = |at| Fault::sense(at, Key::MediumError, (0x0c, 0x00));
    match dice.random_range(0..9) {
        0 => fault(moment(dice, bad(At::Write), objects)),
        1 => fault(moment(dice, bad(At::Medium), objects)),
        2 => fault(moment(dice, bad(At::Deferred), objects)),
        3 => fault(Fault {
            nth: dice.random_range(1..5),
            ..bad(At::Filemark)
        }),
        4 => {
            let of = sense(dice, At::Write);
            fault(moment(dice, of, objects))
        }
        // About earlier writes, on whatever command comes then.
        5 => fault(Fault {
            deferred: true,
            nth: dice.random_range(20..300),
            ..bad(At::Command)
        }),
        6 => {
            let of = Fault::doing(At::Write, upset(dice));
            fault(moment(dice, of, objects))
        }
        _ => common(dice, opcode::WRITE_6),
    }
}

fn reading(dice: &mut StdRng, objects: u64) -> Trouble {
    let begins = |dice: &mut StdRng| Some(dice.random_range(LABEL..objects.max(LABEL + 2)));
    match dice.random_range(0..9) {
        // For good, and long stretches of it.
        0 | 1 => fault(Fault {
            object: begins(dice),
            objects: *[1, 2, 9, 40].choose(dice).unwrap(),
            times: 0,
            ..Fault::sense(At::Read, Key::MediumError, (0x11, 0x00))
        }),
        // Now and then.
        2 => fault(Fault {
            chance: 0.05,
            times: 0,
            ..Fault::sense(At::Read, Key::MediumError, (0x11, 0x00))
        }),
        3 => fault(Fault {
            object: begins(dice),
            times: dice.random_range(0..2),
            bits: dice.random_range(1..4),
            ..Fault::doing(At::Read, Do::Flip)
        }),
        4 => {
            let of = sense(dice, At::Read);
            fault(moment(dice, of, objects))
        }
        5 => {
            let of = Fault::doing(At::Read, upset(dice));
            fault(moment(dice, of, objects))
        }
        _ => common(dice, opcode::READ_6),
    }
}
