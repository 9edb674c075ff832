//! Where the tape stands, and how it gets elsewhere.

use super::*;

fn position(short: Short, long: Option<Long>) -> Result<Position, Error> {
    let long = match long {
        Some(long) => data(READ_POSITION, long.build()),
        None => check(
            READ_POSITION,
            Sense::new(Key::IllegalRequest, code::INVALID_FIELD_IN_CDB),
        ),
    };
    drive(vec![data(READ_POSITION, short.build()), long]).position()
}

#[test]
fn a_position_tells_what_is_in_the_buffer() {
    let short = Short {
        location: Some(Location {
            first: 100,
            last: 90,
        }),
        buffered_objects: Some(8),
        ..Short::default()
    };
    let long = Long {
        object: Some(100),
        file: Some(3),
        ..Long::default()
    };
    let here = position(short, Some(long)).unwrap();
    assert_eq!((here.block, here.file), (100, Some(3)));
    assert_eq!(here.buffered_blocks, Some(10));
    assert_eq!(here.on_medium(), Some(90));
    let mute = Short {
        buffered_objects: None,
        ..short
    };
    assert_eq!(position(mute, None).unwrap().on_medium(), None);
}

#[test]
fn a_position_that_contradicts_itself_is_unknown() {
    let short = Short {
        location: Some(Location {
            first: 100,
            last: 100,
        }),
        ..Short::default()
    };
    let long = Long {
        object: Some(0),
        file: Some(0),
        ..Long::default()
    };
    assert!(matches!(
        position(short, Some(long)),
        Err(Error::PositionUnknown)
    ));
    let beginning = Short {
        beginning: true,
        ..short
    };
    assert!(matches!(
        position(beginning, None),
        Err(Error::PositionUnknown)
    ));
    assert!(matches!(
        position(Short::default(), None),
        Err(Error::PositionUnknown)
    ));
}

#[test]
fn zeros_from_a_drive_that_does_not_know_are_not_the_beginning() {
    let mut drive = drive(tgt_position().into());
    assert!(matches!(drive.position(), Err(Error::PositionUnknown)));
}

#[test]
fn locate_falls_back_to_rewind_and_space_and_remembers_it() {
    let stop = |undone| {
        check(
            SPACE_6,
            no_sense(code::FILEMARK_DETECTED)
                .with_filemark()
                .with_information(undone),
        )
    };
    let (mut drive, seen) = watched(vec![
        check(LOCATE_16, unknown_command()),
        check(LOCATE_10, unknown_command()),
        good(REWIND),
        // Object 10 with filemarks as objects 2 and 6: over 9, then over the last.
        stop(7),
        stop(3),
        good(SPACE_6),
        good(SPACE_6),
        // Once more, on a drive that runs over filemarks and reports end of data where it arrives.
        good(REWIND),
        good(SPACE_6),
        check(SPACE_6, no_sense(code::END_OF_DATA_DETECTED)),
        // And where there is nothing so far out.
        good(REWIND),
        check(SPACE_6, no_sense(code::END_OF_DATA_DETECTED)),
    ]);
    drive.locate(10).unwrap();
    drive.locate(10).unwrap();
    assert!(matches!(drive.locate(10), Err(Error::BlankCheck(_))));
    let counts: Vec<u8> = seen
        .lock()
        .unwrap()
        .iter()
        .filter(|cdb| cdb[0] == SPACE_6)
        .map(|cdb| cdb[4])
        .collect();
    assert_eq!(counts, [9, 6, 2, 1, 9, 1, 9]);
}

#[test]
fn locate_to_nowhere_is_an_error() {
    let nowhere = Sense::new(Key::BlankCheck, code::END_OF_DATA_DETECTED);
    let mut drive = drive(vec![check(LOCATE_16, nowhere), good(LOCATE_16)]);
    assert!(matches!(drive.locate(5000), Err(Error::BlankCheck(_))));
    drive.locate(5).unwrap();
}

fn at_file(file: u64) -> [Answer; 2] {
    let short = Short {
        location: Some(Location {
            first: 500,
            last: 500,
        }),
        ..Short::default()
    };
    let long = Long {
        object: Some(500),
        file: Some(file),
        ..Long::default()
    };
    [
        data(READ_POSITION, short.build()),
        data(READ_POSITION, long.build()),
    ]
}

fn script(parts: Vec<Vec<Answer>>) -> Vec<Answer> {
    parts.into_iter().flatten().collect()
}

#[test]
fn a_tape_file_is_found_by_counting_marks_from_here() {
    let (mut drive, seen) = watched(script(vec![
        at_file(2).into(),
        vec![good(SPACE_6)],
        at_file(5).into(),
        at_file(9).into(),
        vec![good(SPACE_6), good(SPACE_6)],
        at_file(7).into(),
        at_file(9).into(),
        vec![good(REWIND), good(SPACE_6)],
        at_file(2).into(),
        tgt_position().into(),
        vec![good(REWIND), good(SPACE_6)],
        tgt_position().into(),
        at_file(1).into(),
        vec![check(
            SPACE_6,
            Sense::new(Key::BlankCheck, code::END_OF_DATA_DETECTED),
        )],
        at_file(1).into(),
        vec![good(SPACE_6)],
        at_file(3).into(),
    ]));
    drive.locate_file(5).unwrap();
    drive.locate_file(7).unwrap();
    drive.locate_file(2).unwrap();
    drive.locate_file(2).unwrap();
    assert!(matches!(drive.locate_file(4), Err(Error::BlankCheck(_))));
    // The drive says that it is elsewhere.
    assert!(matches!(drive.locate_file(4), Err(Error::PositionUnknown)));
    let counts: Vec<i8> = seen
        .lock()
        .unwrap()
        .iter()
        .filter(|cdb| cdb[0] == SPACE_6)
        .map(|cdb| cdb[4] as i8)
        .collect();
    assert_eq!(counts, [3, -3, 1, 2, 2, 3, 3]);
}

#[test]
fn spacing_says_what_stopped_it() {
    let mut drive = drive(vec![
        check(SPACE_6, no_sense(code::END_OF_DATA_DETECTED)),
        check(
            SPACE_6,
            Sense::new(Key::BlankCheck, code::END_OF_DATA_DETECTED),
        ),
        check(
            SPACE_6,
            no_sense(code::BEGINNING_OF_MEDIUM_DETECTED).with_eom(),
        ),
        good(SPACE_16),
        good(SPACE_6),
    ]);
    assert_eq!(drive.space_filemarks(1).unwrap(), Spaced::EndOfData);
    assert_eq!(drive.space_filemarks(1).unwrap(), Spaced::EndOfData);
    assert_eq!(drive.space_filemarks(-1).unwrap(), Spaced::Beginning);
    assert_eq!(drive.space_filemarks(1 << 30).unwrap(), Spaced::All);
    drive.locate_end_of_data().unwrap();
}
