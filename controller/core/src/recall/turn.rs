//! Which volumes a stream of a restore reads next.
//!
//! A restore may have several streams, each with a drive of its own. Volumes that a chosen file crosses make one *turn*: one stream
//! reads them, one after the other. Turns are handed out one at a time, each to one stream; the first stream takes as many as there
//! are left for it, a further one only the turn that it began with. So no volume is mounted twice, and what others wait for a drive
//! with comes between two turns.

/// A volume that a restore reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Volume {
    /// Row.
    pub id: i64,
    /// Number of its turn.
    pub turn: i32,
    /// Whose it is. None if nobody's, or if who had it did not go on with it.
    pub taken: Option<Taken>,
    /// Whether no connected library shows it.
    pub away: bool,
    /// Whether somebody else's attempt holds it.
    pub busy: bool,
}

/// That a stream has taken a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Its attempt.
    pub attempt: i64,
    /// Whether the attempt has succeeded.
    pub done: bool,
}

/// A stream that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker<'a> {
    /// Its attempt.
    pub attempt: i64,
    /// Whether it is a further stream.
    pub further: bool,
    /// The volume that it holds.
    pub in_place: Option<i64>,
    /// Volumes that it has read.
    pub read: &'a [i64],
    /// Whether nobody will join it: it takes all at once, which needs fewer passes over the catalog.
    pub alone: bool,
}

/// What it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// These volumes, in this order.
    Read(Vec<i64>),
    /// Nothing now: others are at work, and may fail.
    Wait,
    /// All has been read.
    Complete,
}

/// What a stream reads next, of a restore's volumes in their order. Asked again, it gets the same.
pub fn next(volumes: &[Volume], asker: &Asker<'_>) -> Next {
    let is_own = |v: &&Volume| v.taken.is_some_and(|taken| taken.attempt == asker.attempt);
    let unread = |v: &&Volume| !asker.read.contains(&v.id);
    let own: Vec<i64> = volumes
        .iter()
        .filter(is_own)
        .filter(unread)
        .map(|v| v.id)
        .collect();
    if !own.is_empty() {
        return Next::Read(own);
    }
    if asker.further {
        return Next::Complete;
    }
    let free = || volumes.iter().filter(|v| v.taken.is_none());
    // What is in place saves a mount; what somebody has to bring, or to give back, may come meanwhile.
    let best = free().map(|v| v.turn).min_by_key(|turn| {
        let mut of = volumes.iter().filter(|v| v.turn == *turn);
        let in_place = of.clone().any(|v| asker.in_place == Some(v.id));
        let away = of.clone().all(|v| v.away);
        (!in_place, away, of.any(|v| v.busy), *turn)
    });
    match best {
        Some(best) => {
            let wanted = free().filter(|v| asker.alone || v.turn == best);
            Next::Read(wanted.map(|v| v.id).collect())
        }
        None if volumes.iter().filter(|v| !is_own(v)).all(Volume::is_read) => Next::Complete,
        None => Next::Wait,
    }
}

impl Volume {
    fn is_read(&self) -> bool {
        self.taken.is_some_and(|taken| taken.done)
    }
}

/// The first volumes of the turns that nobody has taken: what a further stream may begin with.
pub fn open(volumes: &[Volume]) -> Vec<i64> {
    let mut met: Vec<i32> = Vec::new();
    let mut first = |volume: &&Volume| {
        let is_first = !met.contains(&volume.turn);
        met.push(volume.turn);
        is_first
    };
    let firsts = volumes.iter().filter(|v| first(v));
    firsts.filter(|v| v.taken.is_none()).map(|v| v.id).collect()
}

/// The turn of each volume of an order, from 1, if these are joined by files.
pub fn turns(order: &[i64], joined: &[(i64, i64)]) -> Vec<i32> {
    let mut turns: Vec<i32> = (1..).take(order.len()).collect();
    for (one, other) in joined {
        let turn = |id: &i64| order.iter().position(|known| known == id);
        let (Some(one), Some(other)) = (turn(one), turn(other)) else {
            continue;
        };
        let (from, to) = (turns[one].max(turns[other]), turns[one].min(turns[other]));
        for turn in turns.iter_mut().filter(|turn| **turn == from) {
            *turn = to;
        }
    }
    turns
}

/// How long turns take that are read by so many drives at a time, each by the drive that is free first; in seconds.
pub fn seconds(turns: &[u64], drives: usize) -> u64 {
    let mut busy = vec![0; drives.max(1)];
    for turn in turns {
        if let Some(first) = busy.iter_mut().min() {
            *first += turn;
        }
    }
    busy.into_iter().max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: i64 = 7;
    const FURTHER: i64 = 8;

    fn volume(id: i64, turn: i32) -> Volume {
        Volume {
            id,
            turn,
            taken: None,
            away: false,
            busy: false,
        }
    }

    fn taken(volume: Volume, attempt: i64, done: bool) -> Volume {
        Volume {
            taken: Some(Taken { attempt, done }),
            ..volume
        }
    }

    fn first(read: &[i64]) -> Asker<'_> {
        Asker {
            attempt: FIRST,
            further: false,
            in_place: None,
            read,
            alone: false,
        }
    }

    #[test]
    fn each_turn_goes_to_one_stream_and_asking_again_gives_the_same() {
        let mut volumes = [volume(1, 1), volume(2, 2), volume(3, 2), volume(4, 4)];
        assert_eq!(open(&volumes), [1, 2, 4]);
        let in_place = Asker {
            in_place: Some(3),
            ..first(&[])
        };
        assert_eq!(next(&volumes, &in_place), Next::Read(vec![2, 3]));
        for at in [1, 2] {
            volumes[at] = taken(volumes[at], FIRST, false);
        }
        assert_eq!(next(&volumes, &first(&[])), Next::Read(vec![2, 3]));
        assert_eq!(next(&volumes, &first(&[2, 3])), Next::Read(vec![1]));
        assert_eq!(open(&volumes), [1, 4]);
        volumes[3] = taken(volumes[3], FURTHER, false);
        volumes[0] = taken(volumes[0], FIRST, false);
        let further = |read| Asker {
            attempt: FURTHER,
            further: true,
            ..first(read)
        };
        assert_eq!(next(&volumes, &further(&[])), Next::Read(vec![4]));
        assert_eq!(next(&volumes, &further(&[4])), Next::Complete);
        // Until it has succeeded it may have to be done again.
        assert_eq!(next(&volumes, &first(&[1, 2, 3])), Next::Wait);
        let dropped = Volume {
            taken: None,
            ..volumes[3]
        };
        let again = [volumes[0], volumes[1], volumes[2], dropped];
        assert_eq!(next(&again, &first(&[1, 2, 3])), Next::Read(vec![4]));
        volumes[3] = taken(volumes[3], FURTHER, true);
        assert_eq!(next(&volumes, &first(&[1, 2, 3])), Next::Complete);
        assert_eq!(open(&volumes), []);
    }

    #[test]
    fn what_is_missing_comes_last_and_what_others_have_before_it() {
        let away = Volume {
            away: true,
            ..volume(1, 1)
        };
        let busy = Volume {
            busy: true,
            ..volume(2, 2)
        };
        let volumes = [away, busy, volume(3, 3)];
        assert_eq!(next(&volumes, &first(&[])), Next::Read(vec![3]));
        assert_eq!(next(&volumes[..2], &first(&[])), Next::Read(vec![2]));
        assert_eq!(next(&volumes[..1], &first(&[])), Next::Read(vec![1]));
        let alone = Asker {
            alone: true,
            ..first(&[])
        };
        assert_eq!(next(&volumes, &alone), Next::Read(vec![1, 2, 3]));
    }

    #[test]
    fn volumes_that_a_file_crosses_are_one_turn() {
        assert_eq!(turns(&[5, 6, 7, 8], &[]), [1, 2, 3, 4]);
        assert_eq!(turns(&[5, 6, 7, 8], &[(6, 7)]), [1, 2, 2, 4]);
        assert_eq!(turns(&[5, 6, 7, 8], &[(8, 7), (5, 8)]), [1, 2, 1, 1]);
        assert_eq!(turns(&[5], &[(5, 9)]), [1]);
    }

    #[test]
    fn several_drives_read_side_by_side() {
        assert_eq!(seconds(&[3, 4, 5], 1), 12);
        assert_eq!(seconds(&[3, 4, 5], 2), 8);
        assert_eq!(seconds(&[3, 4, 5], 9), 5);
        assert_eq!(seconds(&[], 2), 0);
        assert_eq!(seconds(&[1], 0), 1);
    }
}
