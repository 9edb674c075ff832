//! The drive against a list of blocks and marks: what is where, what survives, what may be overwritten, and where
//! the tape ends.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Write(u8, usize),
    Marks(u32, bool),
    Read(u32),
    Rewind,
    SpaceBlocks(i32),
    SpaceMarks(i32),
    SpaceEnd,
    LocateObject(u64),
    LocateFile(u64),
    Erase,
    Restart,
    PowerCut(u64),
    AppendOnly,
    Allow,
    Reload,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<u8>(), 1..600_usize).prop_map(|(byte, length)| Step::Write(byte, length)),
        2 => (0..3_u32, any::<bool>()).prop_map(|(count, now)| Step::Marks(count, now)),
        4 => (1..800_u32).prop_map(Step::Read),
        1 => Just(Step::Rewind),
        3 => (-6..7_i32).prop_map(Step::SpaceBlocks),
        3 => (-3..4_i32).prop_map(Step::SpaceMarks),
        1 => Just(Step::SpaceEnd),
        2 => (0..40_u64).prop_map(Step::LocateObject),
        2 => (0..8_u64).prop_map(Step::LocateFile),
        1 => Just(Step::Erase),
        1 => Just(Step::Restart),
        1 => (0..10_u64).prop_map(Step::PowerCut),
        1 => Just(Step::AppendOnly),
        2 => Just(Step::Allow),
        1 => Just(Step::Reload),
    ]
}

#[derive(Debug, Clone, PartialEq)]
enum Item {
    Block(Vec<u8>),
    Mark,
}

/// What is recorded, what of it is surely on the medium, and where the head is.
#[derive(Default)]
struct Tape {
    items: Vec<Item>,
    /// What was there when the drive last synchronised.
    durable: Vec<Item>,
    /// How many of these no later write has touched.
    kept: usize,
    at: usize,
    once: bool,
    append_only: bool,
    /// Where ALLOW OVERWRITE allowed it, as long as the head has not moved.
    allowed: Option<usize>,
}

/// Bytes that fit on the tape, and how many of them lie behind early warning.
const CAPACITY: usize = 6000;
const BEHIND_WARNING: usize = 1500;

impl Item {
    fn footprint(&self) -> usize {
        match self {
            Self::Block(data) => 16 + data.len(),
            Self::Mark => 16,
        }
    }
}

impl Tape {
    fn used(&self) -> usize {
        self.items[..self.at].iter().map(Item::footprint).sum()
    }

    /// Why nothing may be written here.
    fn forbids(&self) -> Option<(u8, u8)> {
        let rest = &self.items[self.at..];
        if rest.is_empty() {
            return None;
        }
        let marks = rest.iter().all(|item| *item == Item::Mark);
        let behind_mark = self.at > 0 && self.items[self.at - 1] == Item::Mark;
        if self.once && !(marks && behind_mark) {
            return Some(code::WORM_OVERWRITE);
        }
        (self.append_only && self.allowed != Some(self.at)).then_some(code::WRITE_APPEND_POSITION)
    }

    /// What a write of this item answers, and whether it is taken.
    fn write(&mut self, item: Item) -> (Option<(u8, u8)>, bool) {
        if let Some(forbidden) = self.forbids() {
            return (Some(forbidden), false);
        }
        self.allowed = None;
        if self.used() + item.footprint() > CAPACITY {
            return (Some(code::END_OF_MEDIUM_DETECTED), false);
        }
        self.put(item);
        let warned = self.used() > CAPACITY - BEHIND_WARNING;
        (warned.then_some(code::END_OF_MEDIUM_DETECTED), true)
    }

    /// The head moves to a place, which ends what was allowed.
    fn go(&mut self, at: usize) {
        self.at = at;
        self.allowed = None;
    }

    fn put(&mut self, item: Item) {
        self.kept = self.kept.min(self.at);
        self.items.truncate(self.at);
        self.items.push(item);
        self.at += 1;
    }

    fn sync(&mut self) {
        self.durable = self.items.clone();
        self.kept = self.items.len();
    }

    /// One step of one object; `Err` says why not.
    fn forward(&mut self) -> Result<&Item, &'static str> {
        let item = self.items.get(self.at).ok_or("end of data")?;
        self.at += 1;
        Ok(item)
    }

    fn backward(&mut self) -> Result<&Item, &'static str> {
        self.at = self.at.checked_sub(1).ok_or("beginning")?;
        Ok(&self.items[self.at])
    }

    /// SPACE; `Err` has why it stopped and how much was left.
    fn space(&mut self, count: i32, marks: bool) -> Result<(), (&'static str, i64)> {
        let mut left = i64::from(count.unsigned_abs());
        while left > 0 {
            let stepped = if count > 0 {
                self.forward()
            } else {
                self.backward()
            };
            match (stepped, marks) {
                (Err(reason), _) => return Err((reason, left)),
                (Ok(Item::Mark), false) => return Err(("filemark", left)),
                (Ok(Item::Block(_)), true) => {}
                _ => left -= 1,
            }
        }
        Ok(())
    }
}

fn reason(sense: &Sense) -> &'static str {
    match sense.code() {
        code::END_OF_DATA_DETECTED => "end of data",
        code::FILEMARK_DETECTED => "filemark",
        code::BEGINNING_OF_MEDIUM_DETECTED => "beginning",
        _ => "other",
    }
}

fn spaced(got: &Got) -> Result<(), (&'static str, i64)> {
    match got {
        Ok(_) => Ok(()),
        Err((sense, _)) => Err((reason(sense), sense.information.unwrap())),
    }
}

fn restart(bench: &mut Bench) {
    let path = bench.drive.cartridge().unwrap().path().to_owned();
    let options = bench.drive.options.clone();
    // The old drive goes first: it holds the cartridge's lock.
    bench.drive = Drive::new(options, Faults::new(None));
    let cartridge = Cartridge::open(&path, bench.drive.options.behaviour).unwrap();
    bench.drive.power_on_with(cartridge);
    assert!(bench.run(&cdb::test_unit_ready(), &[]).is_err());
}

/// After a loss of the buffer: the recording is what was synchronised, or has a prefix of what came then.
fn settle(bench: &mut Bench, tape: &mut Tape) {
    let found = bench.drive.cartridge().unwrap().objects() as usize;
    let recording = |items: &[Item]| {
        let cartridge = bench.drive.cartridge().unwrap();
        items.len() >= found
            && items[..found].iter().enumerate().all(|(number, item)| {
                match cartridge.object(number as u64).unwrap() {
                    cartridge::Object::Filemark => *item == Item::Mark,
                    cartridge::Object::Block(length) => {
                        *item == Item::Block(cartridge.read(number as u64, length).unwrap())
                    }
                }
            })
    };
    if found >= tape.kept && recording(&tape.items) {
        tape.items.truncate(found);
    } else {
        assert!(recording(&tape.durable), "neither old nor new");
        assert_eq!(found, tape.durable.len());
        tape.items = tape.durable.clone();
    }
    tape.sync();
    tape.go(0);
    tape.append_only = false;
}

fn answered(got: &Got) -> Option<(u8, u8)> {
    got.as_ref().err().map(|(sense, _)| sense.code())
}

fn play(once: bool, steps: &[Step]) {
    let behaviour = Behaviour {
        buffer: 2500,
        sync: false,
    };
    let mut bench = Bench::empty(Options {
        behaviour,
        early_warning: Some(BEHIND_WARNING as u64),
        ..Options::default()
    });
    let path = bench.cartridge("A00001L8", |meta| {
        meta.capacity = CAPACITY as u64;
        if once {
            meta.kind = cartridge::Kind::WriteOnce;
        }
    });
    bench.load(&path);
    let mut tape = Tape {
        once,
        ..Tape::default()
    };
    for step in steps {
        let place = tape.at;
        match *step {
            Step::Write(byte, length) => {
                let overwrites = tape.at < tape.items.len();
                let before = tape.items.clone();
                let got = bench.try_write(&vec![byte; length]);
                let (want, taken) = tape.write(Item::Block(vec![byte; length]));
                assert_eq!(answered(&got), want);
                if taken && overwrites {
                    // Overwriting first brings to the medium what is buffered.
                    tape.durable = before;
                    tape.kept = place;
                }
            }
            Step::Marks(count, immediate) => {
                let overwrites = tape.at < tape.items.len();
                let before = tape.items.clone();
                let got = bench.run(&cdb::write_filemarks_6(count, immediate), &[]);
                let mut want = None;
                let mut written = 0;
                for _ in 0..count {
                    let (answer, taken) = tape.write(Item::Mark);
                    want = answer;
                    if !taken {
                        break;
                    }
                    written += 1;
                }
                assert_eq!(answered(&got), want);
                if written > 0 && overwrites {
                    tape.durable = before;
                    tape.kept = place;
                }
                if written == count && !immediate {
                    tape.sync();
                }
            }
            Step::Read(length) => {
                tape.sync();
                let got = bench.read(length);
                match (tape.forward(), got) {
                    (Ok(Item::Block(data)), Ok(got)) => {
                        assert_eq!(got, data[..data.len().min(length as usize)]);
                    }
                    (Ok(Item::Mark), Err((sense, _))) => assert_eq!(reason(&sense), "filemark"),
                    (Err(why), Err((sense, _))) => assert_eq!(reason(&sense), why),
                    (want, got) => panic!("read gave {got:?}, not {want:?}"),
                }
            }
            Step::Rewind => {
                tape.sync();
                bench.ok(&cdb::rewind());
                tape.at = 0;
            }
            Step::SpaceBlocks(count) => {
                tape.sync();
                let got = bench.run(&cdb::space_6(SpaceOver::Blocks, count), &[]);
                assert_eq!(spaced(&got), tape.space(count, false));
            }
            Step::SpaceMarks(count) => {
                tape.sync();
                let over = cdb::space_16(SpaceOver::Filemarks, i64::from(count));
                let got = bench.run(&over, &[]);
                assert_eq!(spaced(&got), tape.space(count, true));
            }
            Step::SpaceEnd => {
                tape.sync();
                bench.ok(&cdb::space_6(SpaceOver::EndOfData, 0));
                tape.at = tape.items.len();
            }
            Step::LocateObject(object) => {
                tape.sync();
                let got = bench.run(&cdb::locate_16(LocateTo::Object(object)), &[]);
                assert_eq!(got.is_ok(), object as usize <= tape.items.len());
                tape.at = tape.items.len().min(object as usize);
            }
            Step::LocateFile(file) => {
                tape.sync();
                let got = bench.run(&cdb::locate_16(LocateTo::File(file)), &[]);
                tape.at = 0;
                let want = tape.space(file as i32, true);
                assert_eq!(got.is_ok(), want.is_ok());
            }
            Step::Erase => {
                let got = bench.run(&cdb::erase(false, false), &[]);
                let want = tape.forbids();
                assert_eq!(answered(&got), want);
                if want.is_none() {
                    tape.allowed = None;
                    tape.items.truncate(tape.at);
                    tape.sync();
                }
            }
            Step::AppendOnly => {
                let extension = taf_scsi::page::mode::tape::Extension {
                    append_only: true,
                    ..taf_scsi::page::mode::tape::Extension::default()
                };
                let mode = Mode {
                    buffered_mode: 1,
                    pages: extension.build(),
                    ..Mode::default()
                };
                let list = mode.build_select_6();
                bench
                    .run(&cdb::mode_select_6(list.len() as u8), &list)
                    .unwrap();
                tape.append_only = true;
            }
            Step::Allow => {
                let got = bench.run(&cdb::allow_overwrite(tape.at as u64), &[]);
                let want = (!tape.append_only).then_some(code::NOT_IN_APPEND_ONLY_MODE);
                assert_eq!(answered(&got), want);
                if want.is_none() {
                    tape.allowed = Some(tape.at);
                }
            }
            Step::Reload => {
                bench.ok(&cdb::load_unload(false));
                bench.ok(&cdb::load_unload(true));
                tape.sync();
                tape.go(0);
                tape.append_only = false;
            }
            Step::Restart => {
                restart(&mut bench);
                settle(&mut bench, &mut tape);
            }
            Step::PowerCut(keep) => {
                bench.drive.power_cut(keep).unwrap();
                assert!(bench.run(&cdb::test_unit_ready(), &[]).is_err());
                settle(&mut bench, &mut tape);
            }
        }
        if tape.at != place {
            tape.allowed = None;
        }
        let marks = tape.items[..tape.at]
            .iter()
            .filter(|item| **item == Item::Mark);
        assert_eq!(
            bench.position(),
            (tape.at as u64, marks.count() as u64),
            "after {step:?}"
        );
    }
    bench.ok(&cdb::rewind());
    for item in &tape.items {
        match item {
            Item::Block(data) => assert_eq!(&bench.read(1000).unwrap(), data),
            Item::Mark => assert!(bench.read(1000).unwrap_err().0.filemark),
        }
    }
    assert_eq!(bench.read(1).unwrap_err().0.key, Key::BlankCheck);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn it_does_as_a_list_of_blocks_and_marks(once: bool, steps in prop::collection::vec(step(), 1..80)) {
        play(once, &steps);
    }
}
