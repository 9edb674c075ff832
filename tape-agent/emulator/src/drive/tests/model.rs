//! The drive against a list of blocks and marks.

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
}

impl Tape {
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
    tape.at = 0;
}

fn play(steps: &[Step]) {
    let behaviour = Behaviour {
        buffer: 2500,
        sync: false,
    };
    let mut bench = Bench::with_capacity(
        1 << 20,
        Options {
            behaviour,
            ..Options::default()
        },
    );
    let mut tape = Tape::default();
    for step in steps {
        match *step {
            Step::Write(byte, length) => {
                if tape.at < tape.items.len() {
                    tape.sync();
                }
                bench.write(&vec![byte; length]);
                tape.put(Item::Block(vec![byte; length]));
            }
            Step::Marks(count, immediate) => {
                bench.ok(&cdb::write_filemarks_6(count, immediate));
                for _ in 0..count {
                    tape.put(Item::Mark);
                }
                if !immediate {
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
                bench.ok(&cdb::erase(false, false));
                tape.items.truncate(tape.at);
                tape.sync();
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
    fn it_does_as_a_list_of_blocks_and_marks(steps in prop::collection::vec(step(), 1..80)) {
        play(&steps);
    }
}
