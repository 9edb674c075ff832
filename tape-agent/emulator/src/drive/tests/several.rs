//! Several initiators at one drive: attentions, reservations, prevention.

use proptest::prelude::*;
use taf_scsi::cdb::{ReserveIn, ReserveOut};
use taf_scsi::page::reservation::{Capabilities, Holder, Keys, Parameters, Reservation, Type};

use super::*;

/// What an initiator got: data, a status, or sense.
#[derive(Debug, PartialEq)]
enum Said {
    Good(Vec<u8>),
    Conflict,
    Sense(Key, (u8, u8)),
}

impl Bench {
    fn by(&mut self, nexus: Nexus, cdb: &[u8], out: &[u8]) -> Said {
        let Delivery::Answer(response) = self.drive.deliver(nexus, cdb, out, 1 << 20) else {
            panic!("it answers");
        };
        match response.status {
            status::GOOD => Said::Good(response.data_in),
            status::RESERVATION_CONFLICT => Said::Conflict,
            _ => {
                let sense = Sense::parse(&response.sense).unwrap();
                Said::Sense(sense.key, sense.code())
            }
        }
    }

    /// The attentions that an initiator is told of.
    fn told(&mut self, nexus: Nexus) -> Vec<(u8, u8)> {
        let mut told = Vec::new();
        while let Said::Sense(Key::UnitAttention, code) =
            self.by(nexus, &cdb::test_unit_ready(), &[])
        {
            told.push(code);
        }
        told
    }

    fn reserve(&mut self, nexus: Nexus, action: ReserveOut, kind: Type, keys: [u64; 2]) -> Said {
        let list = Parameters {
            key: keys[0],
            service_key: keys[1],
            ..Parameters::default()
        };
        let cdb = cdb::persistent_reserve_out(action, kind);
        self.by(nexus, &cdb, &list.build())
    }

    fn register(&mut self, nexus: Nexus, key: u64) {
        let said = self.reserve(nexus, ReserveOut::Register, EXCLUSIVE, [0, key]);
        assert_eq!(said, DONE);
    }

    fn keys(&mut self) -> Vec<u64> {
        let cdb = cdb::persistent_reserve_in(ReserveIn::Keys, 1000);
        let mut keys = Keys::parse(&self.ok(&cdb)).unwrap().keys;
        keys.sort_unstable();
        keys
    }

    fn holder(&mut self) -> Option<Holder> {
        let cdb = cdb::persistent_reserve_in(ReserveIn::Reservation, 1000);
        Reservation::parse(&self.ok(&cdb)).unwrap().holder
    }
}

const EXCLUSIVE: Type = Type::ExclusiveAccess;
const DONE: Said = Said::Good(Vec::new());

fn pair() -> (Bench, Nexus, Nexus) {
    let mut bench = Bench::new();
    let (a, b) = (Nexus::new(), Nexus::new());
    assert_eq!((bench.told(a), bench.told(b)), (vec![], vec![]));
    (bench, a, b)
}

#[test]
fn each_who_is_there_is_told_and_the_next_only_of_what_nobody_knows() {
    let (mut bench, a, b) = pair();
    bench.drive.power_cut(0).unwrap();
    assert_eq!(bench.told(a), [code::POWER_ON_OR_RESET]);
    assert_eq!(bench.told(b), [code::POWER_ON_OR_RESET]);
    assert_eq!(bench.told(a), []);
    let late = Nexus::new();
    assert_eq!(bench.told(late), [], "its host knows already");
    for gone in [a, b, late, Nexus::DIRECT] {
        bench.drive.disconnected(gone);
    }
    bench.drive.power_cut(0).unwrap();
    let first = Nexus::new();
    assert_eq!(bench.told(first), [code::POWER_ON_OR_RESET]);

    let select = Mode::default().build_select_6();
    let cdb = cdb::mode_select_6(select.len() as u8);
    let other = Nexus::new();
    bench.told(other);
    assert_eq!(bench.by(first, &cdb, &select), DONE);
    assert_eq!(bench.told(other), [code::MODE_PARAMETERS_CHANGED]);
    assert_eq!(bench.told(first), []);
}

#[test]
fn a_reservation_keeps_others_out() {
    let (mut bench, a, b) = pair();
    let refused = bench.reserve(a, ReserveOut::Reserve, EXCLUSIVE, [1, 0]);
    assert_eq!(refused, Said::Conflict, "not registered");
    bench.register(a, 1);
    bench.register(b, 2);
    let wrong = bench.reserve(a, ReserveOut::Reserve, EXCLUSIVE, [9, 0]);
    assert_eq!(wrong, Said::Conflict, "another key");
    for _ in 0..2 {
        assert_eq!(
            bench.reserve(a, ReserveOut::Reserve, EXCLUSIVE, [1, 0]),
            DONE
        );
    }
    let other_type = bench.reserve(a, ReserveOut::Reserve, Type::WriteExclusive, [1, 0]);
    assert_eq!(other_type, Said::Conflict);
    assert_eq!(
        bench.reserve(b, ReserveOut::Reserve, EXCLUSIVE, [2, 0]),
        Said::Conflict
    );
    let holder = Holder {
        key: 1,
        kind: EXCLUSIVE,
    };
    assert_eq!(bench.holder(), Some(holder));
    assert_eq!(bench.keys(), [1, 2]);
    for cdb in [
        &cdb::write_6(1)[..],
        &cdb::read_6(1, true),
        &cdb::rewind(),
        &cdb::load_unload(false),
        &cdb::read_position(PositionForm::Long),
        &cdb::prevent_allow_medium_removal(true),
        &cdb::mode_sense_6(PageControl::Current, 0, 0, 255),
    ] {
        assert_eq!(bench.by(b, cdb, b"x"), Said::Conflict, "{cdb:?}");
    }
    for cdb in [
        &cdb::test_unit_ready()[..],
        &cdb::inquiry(36),
        &cdb::request_sense(18),
        &cdb::log_sense(0x11, 0, 100),
        &cdb::prevent_allow_medium_removal(false),
    ] {
        assert!(matches!(bench.by(b, cdb, &[]), Said::Good(_)), "{cdb:?}");
    }
    assert_eq!(bench.by(a, &cdb::write_6(1), b"x"), DONE);

    // A release by somebody else does nothing, one of another type is an error.
    assert_eq!(
        bench.reserve(b, ReserveOut::Release, EXCLUSIVE, [2, 0]),
        DONE
    );
    let odd = bench.reserve(a, ReserveOut::Release, Type::WriteExclusive, [1, 0]);
    assert_eq!(odd, Said::Sense(Key::IllegalRequest, code::INVALID_RELEASE));
    assert_eq!(
        bench.reserve(a, ReserveOut::Release, EXCLUSIVE, [1, 0]),
        DONE
    );
    assert_eq!(bench.holder(), None);
    assert_eq!(bench.by(b, &cdb::rewind(), &[]), DONE);
}

#[test]
fn types_differ_in_whom_they_keep_out() {
    for (kind, registrant_writes, stranger_looks) in [
        (Type::WriteExclusive, false, true),
        (Type::WriteExclusiveRegistrants, true, true),
        (Type::ExclusiveAccessRegistrants, true, false),
        (Type::WriteExclusiveAll, true, true),
        (Type::ExclusiveAccessAll, true, false),
    ] {
        let (mut bench, a, b) = pair();
        let stranger = Nexus::new();
        bench.register(a, 1);
        bench.register(b, 2);
        assert_eq!(bench.reserve(a, ReserveOut::Reserve, kind, [1, 0]), DONE);
        let wrote = bench.by(b, &cdb::write_6(1), b"x") == DONE;
        assert_eq!(wrote, registrant_writes, "{kind:?}");
        let position = cdb::read_position(PositionForm::Short);
        let looked = bench.by(stranger, &position, &[]) != Said::Conflict;
        assert_eq!(looked, stranger_looks, "{kind:?}");
        assert_eq!(bench.by(stranger, &cdb::rewind(), &[]), Said::Conflict);
        // With the last holder's registration the reservation goes.
        assert_eq!(bench.reserve(a, ReserveOut::Register, kind, [1, 0]), DONE);
        assert_eq!(bench.holder().is_some(), kind.all_hold(), "{kind:?}");
        let told = bench.told(b);
        let want = kind.registrants_only() && !kind.all_hold();
        assert_eq!(told == [code::RESERVATIONS_RELEASED], want, "{kind:?}");
    }
}

#[test]
fn a_dead_hosts_reservation_is_preempted_by_who_knows_its_key() {
    let (mut bench, a, b) = pair();
    bench.register(a, 0xdead);
    bench.reserve(a, ReserveOut::Reserve, EXCLUSIVE, [0xdead, 0]);
    bench.drive.disconnected(a);
    bench.register(b, 2);
    assert_eq!(bench.by(b, &cdb::rewind(), &[]), Said::Conflict);
    let stranger = bench.reserve(b, ReserveOut::Preempt, EXCLUSIVE, [2, 0xbeef]);
    assert_eq!(stranger, Said::Conflict, "nobody has that key");
    let none = bench.reserve(b, ReserveOut::Preempt, EXCLUSIVE, [2, 0]);
    assert_eq!(
        none,
        Said::Sense(Key::IllegalRequest, code::INVALID_FIELD_IN_PARAMETERS)
    );
    let done = bench.reserve(b, ReserveOut::PreemptAndAbort, EXCLUSIVE, [2, 0xdead]);
    assert_eq!(done, DONE);
    assert_eq!(bench.keys(), [2]);
    assert_eq!(bench.holder().unwrap().key, 2);
    assert_eq!(bench.by(b, &cdb::rewind(), &[]), DONE);
}

#[test]
fn who_is_preempted_or_cleared_is_told() {
    let (mut bench, a, b) = pair();
    bench.register(a, 1);
    bench.register(b, 2);
    assert_eq!(
        bench.reserve(b, ReserveOut::Preempt, EXCLUSIVE, [2, 1]),
        DONE
    );
    assert_eq!(bench.told(a), [code::REGISTRATIONS_PREEMPTED]);
    assert_eq!(
        bench.holder(),
        None,
        "there was no reservation to take over"
    );
    let again = bench.reserve(a, ReserveOut::RegisterAndIgnore, EXCLUSIVE, [77, 3]);
    assert_eq!(again, DONE);
    bench.reserve(a, ReserveOut::Reserve, EXCLUSIVE, [3, 0]);
    assert_eq!(bench.reserve(b, ReserveOut::Clear, EXCLUSIVE, [2, 0]), DONE);
    assert_eq!(bench.told(a), [code::RESERVATIONS_PREEMPTED]);
    assert_eq!((bench.keys(), bench.holder()), (vec![], None));
}

#[test]
fn registrations_survive_a_power_cut_if_they_were_made_to() {
    let (mut bench, a, _) = pair();
    let cdb = cdb::persistent_reserve_in(ReserveIn::Capabilities, 8);
    let capabilities = Capabilities::parse(&bench.ok(&cdb)).unwrap();
    assert!(capabilities.persist_possible && !capabilities.persist_active);
    for persist in [false, true] {
        let list = Parameters {
            service_key: 5,
            persist,
            ..Parameters::default()
        };
        let register = cdb::persistent_reserve_out(ReserveOut::RegisterAndIgnore, EXCLUSIVE);
        assert_eq!(bench.by(a, &register, &list.build()), DONE);
        assert_eq!(
            bench.reserve(a, ReserveOut::Reserve, EXCLUSIVE, [5, 0]),
            DONE
        );
        bench.drive.power_cut(0).unwrap();
        bench.told(a);
        bench.told(Nexus::DIRECT);
        assert_eq!(bench.holder().is_some(), persist);
    }
    let short = cdb::persistent_reserve_out(ReserveOut::Clear, EXCLUSIVE);
    assert_eq!(
        bench.by(a, &short, &[0; 20]),
        Said::Sense(Key::IllegalRequest, code::INVALID_PARAMETER_LENGTH)
    );
}

proptest! {
    /// Whatever three initiators do to each other: who holds the unit is registered and may write, those whom its
    /// type excludes may not, and the generation never goes back.
    #[test]
    fn holders_are_registered_and_write_and_others_do_not(
        steps in prop::collection::vec((0..3_usize, 0..7_u8, 0..9_u8, 0..4_u64, 0..4_u64), 1..60),
    ) {
        let mut bench = Bench::new();
        let all = [Nexus::new(), Nexus::new(), Nexus::new()];
        let mut generation = 0;
        for (who, action, kind, key, service) in steps {
            let mut cdb = cdb::persistent_reserve_out(ReserveOut::Register, EXCLUSIVE);
            cdb[1] = action;
            cdb[2] = kind;
            let list = Parameters { key, service_key: service, ..Parameters::default() };
            let said = bench.by(all[who], &cdb, &list.build());
            for nexus in all {
                bench.told(nexus);
            }
            let cdb = cdb::persistent_reserve_in(ReserveIn::Keys, 1000);
            let keys = Keys::parse(&bench.ok(&cdb)).unwrap();
            prop_assert!(keys.generation >= generation);
            prop_assert!(said == DONE || keys.generation == generation, "refused, yet changed");
            generation = keys.generation;
            let writes: Vec<bool> = all
                .iter()
                .map(|nexus| bench.by(*nexus, &cdb::write_6(1), b"x") != Said::Conflict)
                .collect();
            let writers = writes.iter().filter(|writes| **writes).count();
            match bench.holder() {
                None => prop_assert_eq!(writers, 3),
                Some(holder) if holder.kind.registrants_only() => {
                    prop_assert_eq!(writers, keys.keys.len());
                }
                Some(holder) => {
                    prop_assert!(keys.keys.contains(&holder.key));
                    prop_assert_eq!(writers, 1);
                }
            }
        }
    }
}

#[test]
fn the_old_reserve_ends_with_its_connection() {
    let (mut bench, a, b) = pair();
    let (reserve, release) = ([0x16, 0, 0, 0, 0, 0], [0x17, 0, 0, 0, 0, 0]);
    assert_eq!(bench.by(a, &reserve, &[]), DONE);
    assert_eq!(bench.by(b, &reserve, &[]), Said::Conflict);
    assert_eq!(bench.by(b, &release, &[]), DONE);
    assert_eq!(bench.by(b, &cdb::rewind(), &[]), Said::Conflict);
    bench.drive.disconnected(a);
    assert_eq!(bench.by(b, &cdb::rewind(), &[]), DONE);
}

#[test]
fn who_prevents_removal_is_known_by_connection() {
    let (mut bench, a, b) = pair();
    bench.by(a, &cdb::prevent_allow_medium_removal(true), &[]);
    bench.by(b, &cdb::prevent_allow_medium_removal(true), &[]);
    let unload = cdb::load_unload(false);
    let prevented = Said::Sense(Key::IllegalRequest, code::MEDIUM_REMOVAL_PREVENTED);
    bench.by(b, &cdb::prevent_allow_medium_removal(false), &[]);
    assert_eq!(bench.by(b, &unload, &[]), prevented);
    // A worker that died left its lock; the next one of the same host takes it back.
    bench.drive.disconnected(a);
    assert_eq!(bench.by(b, &unload, &[]), prevented);
    bench.by(b, &cdb::prevent_allow_medium_removal(false), &[]);
    assert_eq!(bench.by(b, &unload, &[]), DONE);
}
