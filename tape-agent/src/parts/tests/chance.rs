//! Anything that may go wrong at a drive, by chance.

use super::*;

/// What may go wrong at a drive, at random.
fn any_fault(dice: &mut StdRng) -> Strike {
    let at = *[
        At::Write,
        At::Write,
        At::Medium,
        At::Medium,
        At::Deferred,
        At::Filemark,
        At::Position,
        At::Read,
        At::Command,
    ]
    .get(dice.random_range(0..9))
    .unwrap();
    let action = *[
        Do::Sense,
        Do::Sense,
        Do::Sense,
        Do::Sense,
        Do::Sense,
        Do::Reset,
        Do::PowerCut,
        Do::DropBefore,
        Do::DropAfter,
        Do::Busy,
        Do::ReservationConflict,
        Do::Flip,
    ]
    .get(dice.random_range(0..12))
    .unwrap();
    let (key, asc) = *[
        (3, 0x0c),
        (4, 0x44),
        (0xb, 0x47),
        (0xd, 0),
        (7, 0x27),
        (6, 0x29),
        (6, 0x28),
    ]
    .get(dice.random_range(0..7))
    .unwrap();
    Strike {
        at,
        // Bits are turned over where something is read.
        action: if at == At::Read && dice.random_ratio(1, 2) {
            Do::Flip
        } else {
            action
        },
        object: dice
            .random_ratio(3, 4)
            .then(|| dice.random_range(BEGIN..BEGIN + 40)),
        nth: dice.random_range(1..6),
        times: dice.random_range(0..3),
        key,
        asc,
        deferred: at == At::Command && dice.random_ratio(1, 3),
        ..Strike::default()
    }
}

/// Courses of the long form.
const ROUNDS_MAX: u64 = 500;

#[test]
fn whatever_goes_wrong_nothing_is_lost_silently() {
    let seed: u64 = std::env::var("TAF_SEED").map_or_else(
        |_| rand::random(),
        |text| text.parse().expect("TAF_SEED is a number"),
    );
    let rounds = if std::env::var_os("TAF_TEST_LONG").is_some() {
        ROUNDS_MAX
    } else {
        25
    };
    println!("TAF_SEED={seed}; TAF_TEST_LONG=1 tries 500 courses");
    let (mut whole, mut failed) = (0, 0);
    for round in 0..ROUNDS_MAX {
        // About one course in seven fails: by chance none of the first may.
        if round >= rounds && whole > 0 && failed > 0 {
            break;
        }
        let mut dice = StdRng::seed_from_u64(seed.wrapping_add(round));
        let stream = Stream::new(round, 25);
        let terms = Terms {
            capacity: dice.random_range(500_000..2_000_000),
            early_warning: dice.random_range(0..200_000),
            part_size: dice.random_range(60_000..900_000),
            ring: dice.random_range(200_000..700_000),
            disk: *[0, 400_000].get(dice.random_range(0..2)).unwrap(),
            buffer: dice.random_range(0..300_000),
            lies: false,
        };
        let course = back_up_through(&stream, terms, &mut |_| {
            (0..dice.random_range(0..3))
                .map(|_| any_fault(&mut dice))
                .collect()
        });
        let on_tape = course.prove(&stream);
        match &course.outcome {
            Ok(()) => {
                assert_eq!(on_tape, stream.tar.len(), "round {round}: silently less");
                whole += 1;
            }
            Err(fault) => {
                assert!(
                    !fault.reason.is_empty() && !fault.next_step.is_empty(),
                    "{fault:?}"
                );
                failed += 1;
            }
        }
    }
    println!("{whole} whole, {failed} failed clearly");
    assert!(whole > 0 && failed > 0);
}
