//! Reservations: ours, stale ones of ours, and those of others.

use super::*;

const OURS: u64 = 0x1111;
const OURS_BEFORE: u64 = 0x2222;
const THEIRS: u64 = 0x9999;

fn keys(keys: &[u64]) -> Answer {
    let list = reservation::Keys {
        generation: 1,
        keys: keys.to_vec(),
    };
    data(PERSISTENT_RESERVE_IN, list.build())
}

fn held(key: Option<u64>) -> Answer {
    let held = reservation::Reservation {
        generation: 1,
        holder: key.map(|key| reservation::Holder {
            key,
            kind: reservation::Type::ExclusiveAccess,
        }),
    };
    data(PERSISTENT_RESERVE_IN, held.build())
}

fn reserving(script: Vec<Answer>) -> (Result<Reserved, Error>, Vec<u8>) {
    let (mut drive, seen) = watched(script);
    drive.reserve_with(OwnKeys {
        current: OURS,
        stale: vec![OURS_BEFORE],
    });
    let outcome = drive.reserve();
    let orders = seen.lock().unwrap();
    let orders = orders.iter().filter(|cdb| cdb[0] == PERSISTENT_RESERVE_OUT);
    (outcome, orders.map(|cdb| cdb[1]).collect())
}

#[test]
fn a_free_drive_is_reserved_and_one_that_is_ours_already_left_alone() {
    let order = || good(PERSISTENT_RESERVE_OUT);
    let (outcome, orders) = reserving(vec![
        keys(&[]),
        held(None),
        order(),
        held(None),
        order(),
        held(Some(OURS)),
    ]);
    assert_eq!(outcome.unwrap(), Reserved::Ours);
    // Register whatever was registered, reserve.
    assert_eq!(orders, [6, 1]);
    let (outcome, orders) = reserving(vec![keys(&[OURS]), held(Some(OURS))]);
    assert_eq!((outcome.unwrap(), orders), (Reserved::Ours, vec![]));
}

#[test]
fn only_our_own_stale_keys_are_pre_empted() {
    let order = || good(PERSISTENT_RESERVE_OUT);
    let (outcome, orders) = reserving(vec![
        keys(&[OURS_BEFORE]),
        held(Some(OURS_BEFORE)),
        order(),
        order(),
        held(Some(OURS)),
        held(Some(OURS)),
    ]);
    assert_eq!((outcome.unwrap(), orders), (Reserved::Ours, vec![6, 4]));
    let (outcome, orders) = reserving(vec![keys(&[THEIRS, OURS_BEFORE]), held(Some(THEIRS))]);
    assert!(matches!(outcome, Err(Error::ReservedBy { key: THEIRS })));
    assert_eq!(orders, []);
    // Somebody was quicker.
    let (outcome, _) = reserving(vec![
        keys(&[]),
        held(None),
        order(),
        held(None),
        status(PERSISTENT_RESERVE_OUT, 0x18),
        held(Some(THEIRS)),
    ]);
    assert!(matches!(outcome, Err(Error::ReservedBy { key: THEIRS })));
}

#[test]
fn a_drive_without_reservations_works_without() {
    let (outcome, orders) = reserving(vec![check(PERSISTENT_RESERVE_IN, unknown_command())]);
    assert_eq!((outcome.unwrap(), orders), (Reserved::Unsupported, vec![]));
    assert_eq!(drive(vec![]).reserve().unwrap(), Reserved::NotAsked);
}
