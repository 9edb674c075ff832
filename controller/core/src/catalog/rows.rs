//! Which row of a key a version resolves to, and which rows nobody resolves to any more (rules 4, 5 and 13).
//!
//! A row is a page or a tombstone: both obey the same rules. Rows of one key are named by the version that wrote them.

/// A version whose rows must stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Protected {
    /// Its number.
    pub version: i64,
    /// The version that it does not resolve below.
    pub floor: i64,
}

/// The row that a version resolves to, of a key's rows in ascending order: the newest that is not above it and not below its
/// floor.
pub fn resolve(rows: &[i64], of: Protected) -> Option<i64> {
    let upto = rows.partition_point(|row| *row <= of.version);
    rows[..upto].last().copied().filter(|row| *row >= of.floor)
}

/// Whether a row must stay that a version with this floor wrote: somebody's floor is the same and they lie between it and the
/// next row of its key.
pub fn stays(row: i64, floor: i64, next: Option<i64>, protected: &[Protected]) -> bool {
    protected
        .iter()
        .any(|p| p.floor == floor && p.version >= row && next.is_none_or(|next| p.version < next))
}

/// A published version, as far as it protects rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Its number and floor.
    pub of: Protected,
    /// Whether it has not expired, or is still being read.
    pub kept: bool,
}

/// What an attempt that runs, or that can be gone on with, is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compared {
    /// The head, 0 for none.
    pub parent: i64,
    /// Of a differential: the full.
    pub full: Option<i64>,
}

/// The versions of a line whose rows must stay: kept ones, the newest even if it has expired, and what attempts compare with.
pub fn protected(versions: &[Published], attempts: &[Compared]) -> Vec<Protected> {
    let head = versions.iter().map(|v| v.of.version).max();
    let compared = |version: i64| {
        attempts
            .iter()
            .any(|a| a.parent == version || a.full == Some(version))
    };
    let stays = |v: &&Published| v.kept || Some(v.of.version) == head || compared(v.of.version);
    versions.iter().filter(stays).map(|v| v.of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn of(version: i64, floor: i64) -> Protected {
        Protected { version, floor }
    }

    #[test]
    fn a_version_resolves_to_the_newest_row_between_its_floor_and_itself() {
        let rows = [2, 5, 9];
        assert_eq!(resolve(&rows, of(1, 1)), None);
        assert_eq!(resolve(&rows, of(2, 1)), Some(2));
        assert_eq!(resolve(&rows, of(8, 1)), Some(5));
        assert_eq!(
            resolve(&rows, of(8, 6)),
            None,
            "a full has no such directory"
        );
        assert_eq!(resolve(&rows, of(20, 6)), Some(9));
    }

    #[test]
    fn a_row_stays_as_long_as_somebody_resolves_to_it() {
        // Whatever versions are protected: a row may go if and only if none of them resolves to it.
        let floors = |version: i64| if version < 4 { 1 } else { 4 };
        let rows = [1, 2, 4, 6];
        for kept in 0_u32..1 << 7 {
            let kept = |version: i64| kept >> version & 1 == 1;
            let all = (1..7).map(|v| Published {
                of: of(v, floors(v)),
                kept: kept(v),
            });
            let all: Vec<Published> = all.collect();
            let protected = protected(&all, &[]);
            assert!(protected.contains(&of(6, 4)), "the head stays");
            for (at, &row) in rows.iter().enumerate() {
                let next = rows.get(at + 1).copied();
                let used = protected.iter().any(|p| resolve(&rows, *p) == Some(row));
                assert_eq!(stays(row, floors(row), next, &protected), used);
            }
        }
    }

    #[test]
    fn what_attempts_compare_with_stays() {
        let all = [1, 2, 3].map(|v| Published {
            of: of(v, 1),
            kept: false,
        });
        let attempt = |parent, full| Compared { parent, full };
        assert_eq!(protected(&all, &[]), [of(3, 1)]);
        assert_eq!(protected(&all, &[attempt(2, None)]), [of(2, 1), of(3, 1)]);
        assert_eq!(
            protected(&all, &[attempt(3, Some(1))]),
            [of(1, 1), of(3, 1)]
        );
    }
}
