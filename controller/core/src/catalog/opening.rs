//! What a run makes, and what it builds on.
//!
//! Numbers, never clocks, order versions: a run's number is the head's and one (rule 1). Its floor is itself, or its parent's
//! (rule 4). The base is always the head, and of a differential the full as well (rule 6); where one is missing the run is
//! promoted to a full, and says why. There is never a chain without its base.

use std::fmt;

/// How a version is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Everything that is selected.
    Full,
    /// What changed since the version before.
    Incremental,
    /// What changed since the last full one.
    Differential,
    /// As an incremental; it takes the place of the one before.
    Mirror,
    /// Everything that is selected, on a line of its own; nothing builds on it.
    Archive,
    /// Everything, put together from earlier versions.
    SyntheticFull,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::Full,
        Self::Incremental,
        Self::Differential,
        Self::Mirror,
        Self::Archive,
        Self::SyntheticFull,
    ];

    /// As the catalog stores it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Incremental => "incremental",
            Self::Differential => "differential",
            Self::Mirror => "mirror",
            Self::Archive => "archive",
            Self::SyntheticFull => "synthetic-full",
        }
    }

    /// From its stored name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether it is compared with the version before.
    fn wants_base(self) -> bool {
        matches!(self, Self::Incremental | Self::Differential | Self::Mirror)
    }
}

/// A published version that a run may build on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// Its number.
    pub version: i64,
    /// Whether people can still restore it: it has not expired.
    pub kept: bool,
    /// Whether it can't be restored any more: a volume that it needs was erased.
    pub lost: bool,
}

/// A line's newest published version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The version.
    pub base: Base,
    /// The version that it does not resolve below.
    pub floor: i64,
    /// Whether rows that it resolves to were forgotten since it expired.
    pub pages_gone: bool,
}

/// What earlier attempts have left under the next number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Staged {
    /// What they were making.
    pub kind: Kind,
    /// What they built on, 0 for nothing.
    pub parent: i64,
    /// The version that they do not resolve below.
    pub floor: i64,
    /// Whether it can be gone on with: there are parts, none of them is missing and each is where it was.
    pub whole: bool,
}

/// What is known of a line when a run begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Line {
    /// The newest number that it has given. It is the head's, but for a version that came back by a rebuild and is not whole.
    pub last: i64,
    /// Its newest published version.
    pub head: Option<Head>,
    /// The version at the head's floor.
    pub full: Option<Base>,
    /// What earlier attempts have left.
    pub staged: Option<Staged>,
    /// Of a mirror: how much of what the head's archives hold still belongs to it.
    pub share: Option<Share>,
}

/// How much of what a version's archives hold still belongs to it, in bytes of their tar streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// What belongs to it.
    pub living: u64,
    /// What the parts hold that it needs.
    pub held: u64,
    /// The share, in percent, from which on it is worth building on.
    pub least_percent: u32,
}

impl Share {
    /// How much belongs to it, in percent, rounded down.
    fn percent(self) -> u32 {
        let percent = u128::from(self.living) * 100 / u128::from(self.held.max(1));
        percent.min(100) as u32
    }
}

/// Why a run makes a full although something else was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promotion {
    /// The line has no version yet.
    NoVersion,
    /// Rows of the version before were forgotten.
    PagesGone,
    /// A volume with bytes of the version before was erased.
    BaseLost,
    /// The full has expired.
    FullExpired,
    /// A volume with bytes of the full was erased.
    FullLost,
    /// Too little of what a mirror's archives hold still belongs to it.
    MostlyDead {
        /// How much does, in percent.
        living: u32,
        /// How much should, in percent.
        least: u32,
    },
}

impl fmt::Display for Promotion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::MostlyDead { living, least } = self {
            return write!(
                f,
                "only {living} % of what its archives hold still belongs to it, less than {least} %"
            );
        }
        f.write_str(match self {
            Self::MostlyDead { .. } => "too little of what its archives hold still belongs to it",
            Self::NoVersion => "there is no version to build on",
            Self::PagesGone => "its base's pages are gone",
            Self::BaseLost => "the version before can't be restored any more",
            Self::FullExpired => "the full is no longer kept",
            Self::FullLost => "the full can't be restored any more",
        })
    }
}

/// What a run makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// Its number.
    pub version: i64,
    /// What it makes.
    pub kind: Kind,
    /// What it builds on, 0 for nothing.
    pub parent: i64,
    /// The version that it does not resolve below.
    pub floor: i64,
    /// Why it makes a full although something else was asked for.
    pub promotion: Option<Promotion>,
    /// Whether it goes on with what earlier attempts have left; if not, that has to go first.
    pub resumes: bool,
}

impl Opening {
    /// Whether the source agent begins alone, and may never need a drive: there is something to compare with, or a synthetic full
    /// waits for what its feed reads.
    pub fn begins_alone(&self) -> bool {
        self.parent != 0 || self.resumes || self.kind == Kind::SyntheticFull
    }
}

/// Decides what a run makes that was asked to make `asked`.
pub fn open(asked: Kind, line: &Line) -> Opening {
    let version = line.last.max(line.head.map_or(0, |head| head.base.version)) + 1;
    let promotion = asked.wants_base().then(|| obstacle(asked, line)).flatten();
    let kind = match promotion {
        // A mirror without a base is a whole one, and stays a mirror.
        Some(_) if asked != Kind::Mirror => Kind::Full,
        _ => asked,
    };
    let (parent, floor) = match line.head {
        Some(head) if asked.wants_base() && promotion.is_none() => (head.base.version, head.floor),
        _ => (0, version),
    };
    // What a synthetic full copies is all read again in any case: it begins anew.
    let resumes = kind != Kind::SyntheticFull
        && line.staged.is_some_and(|staged| {
            staged.whole && (staged.kind, staged.parent, staged.floor) == (kind, parent, floor)
        });
    Opening {
        version,
        kind,
        parent,
        floor,
        promotion,
        resumes,
    }
}

/// Why a synthetic full can't be made, or need not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSynthesis {
    /// The newest version is a full one of its own.
    Full,
    /// The newest version can't be had, for this reason.
    Unreadable(Promotion),
}

/// What keeps a line's head from being put together as a synthetic full.
pub fn synthesis(line: &Line) -> Result<Head, NoSynthesis> {
    if let Some(why) = obstacle(Kind::SyntheticFull, line) {
        return Err(NoSynthesis::Unreadable(why));
    }
    match line.head {
        Some(head) if head.floor < head.base.version => Ok(head),
        _ => Err(NoSynthesis::Full),
    }
}

/// What keeps a run from building on the line's head.
fn obstacle(asked: Kind, line: &Line) -> Option<Promotion> {
    let Some(head) = line.head else {
        return Some(Promotion::NoVersion);
    };
    if head.pages_gone {
        return Some(Promotion::PagesGone);
    }
    if head.base.lost {
        return Some(Promotion::BaseLost);
    }
    if asked == Kind::Mirror
        && let Some(share) = line.share
        && share.percent() < share.least_percent
    {
        return Some(Promotion::MostlyDead {
            living: share.percent(),
            least: share.least_percent,
        });
    }
    if asked != Kind::Differential {
        return None;
    }
    match line.full {
        Some(full) if full.lost => Some(Promotion::FullLost),
        Some(full) if full.kept => None,
        _ => Some(Promotion::FullExpired),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const KEPT: Base = Base {
        version: 7,
        kept: true,
        lost: false,
    };

    fn line() -> Line {
        Line {
            last: 7,
            head: Some(Head {
                base: KEPT,
                floor: 4,
                pages_gone: false,
            }),
            full: Some(Base { version: 4, ..KEPT }),
            staged: None,
            share: None,
        }
    }

    #[test]
    fn names_of_kinds_lead_back_to_them() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_name(kind.name()), Some(kind));
        }
        assert_eq!(Kind::from_name("monthly"), None);
    }

    #[test]
    fn a_run_builds_on_the_head_and_keeps_its_floor() {
        for kind in [Kind::Incremental, Kind::Differential, Kind::Mirror] {
            let opening = open(kind, &line());
            assert_eq!(
                (opening.version, opening.kind, opening.parent, opening.floor),
                (8, kind, 7, 4)
            );
            assert!(opening.begins_alone() && opening.promotion.is_none());
        }
        for kind in [Kind::Full, Kind::Archive, Kind::SyntheticFull] {
            let opening = open(kind, &line());
            assert_eq!(
                (opening.version, opening.kind, opening.parent, opening.floor),
                (8, kind, 0, 8)
            );
            let alone = kind == Kind::SyntheticFull;
            assert_eq!(opening.begins_alone(), alone);
            assert!(opening.promotion.is_none());
        }
    }

    #[test]
    fn a_run_without_its_base_is_promoted_and_says_why() {
        let nothing = open(Kind::Incremental, &Line::default());
        assert_eq!((nothing.version, nothing.kind), (1, Kind::Full));
        assert_eq!(nothing.promotion, Some(Promotion::NoVersion));

        let mut gone = line();
        gone.head.as_mut().unwrap().pages_gone = true;
        let mut lost = line();
        lost.head.as_mut().unwrap().base.lost = true;
        for (line, why) in [(gone, Promotion::PagesGone), (lost, Promotion::BaseLost)] {
            for kind in [Kind::Incremental, Kind::Differential] {
                let opening = open(kind, &line);
                assert_eq!((opening.kind, opening.floor), (Kind::Full, 8));
                assert_eq!(opening.promotion, Some(why));
            }
            assert_eq!(open(Kind::Full, &line).promotion, None);
            assert_eq!(open(Kind::Mirror, &line).kind, Kind::Mirror);
        }
    }

    #[test]
    fn only_a_differential_needs_the_full() {
        for (full, why) in [
            (None, Promotion::FullExpired),
            (
                Some(Base {
                    kept: false,
                    ..KEPT
                }),
                Promotion::FullExpired,
            ),
            (Some(Base { lost: true, ..KEPT }), Promotion::FullLost),
        ] {
            let line = Line { full, ..line() };
            assert_eq!(open(Kind::Differential, &line).promotion, Some(why));
            assert_eq!(open(Kind::Incremental, &line).promotion, None);
        }
    }

    #[test]
    fn a_mirror_is_made_whole_when_most_of_its_archives_is_dead() {
        let with = |living| Line {
            share: Some(Share {
                living,
                held: 1_000,
                least_percent: 50,
            }),
            ..line()
        };
        assert_eq!(open(Kind::Mirror, &with(500)).parent, 7);
        let whole = open(Kind::Mirror, &with(499));
        assert_eq!(
            (whole.kind, whole.parent, whole.floor),
            (Kind::Mirror, 0, 8)
        );
        let why = whole.promotion.unwrap();
        assert_eq!(
            why,
            Promotion::MostlyDead {
                living: 49,
                least: 50
            }
        );
        assert!(why.to_string().contains("49 %"), "{why}");
        assert_eq!(open(Kind::Incremental, &with(0)).promotion, None);
        let empty = Share {
            living: 0,
            held: 0,
            least_percent: 50,
        };
        assert_eq!(empty.percent(), 0);
    }

    #[test]
    fn a_synthetic_full_needs_a_head_that_builds_on_others_and_can_be_read() {
        assert_eq!(synthesis(&line()), Ok(line().head.unwrap()));
        let mut full = line();
        full.head.as_mut().unwrap().floor = 7;
        assert_eq!(synthesis(&full), Err(NoSynthesis::Full));
        let mut lost = line();
        lost.head.as_mut().unwrap().base.lost = true;
        let unreadable = |why| Err(NoSynthesis::Unreadable(why));
        assert_eq!(synthesis(&lost), unreadable(Promotion::BaseLost));
        let nothing = unreadable(Promotion::NoVersion);
        assert_eq!(synthesis(&Line::default()), nothing);
    }

    #[test]
    fn a_synthetic_full_that_died_begins_anew() {
        let staged = Staged {
            kind: Kind::SyntheticFull,
            parent: 0,
            floor: 8,
            whole: true,
        };
        let with = Line {
            staged: Some(staged),
            ..line()
        };
        let opening = open(Kind::SyntheticFull, &with);
        assert!(!opening.resumes && opening.begins_alone());
    }

    #[test]
    fn an_expired_head_is_still_built_on_until_its_rows_go() {
        let mut line = line();
        line.head.as_mut().unwrap().base.kept = false;
        assert_eq!(open(Kind::Incremental, &line).parent, 7);
    }

    #[test]
    fn only_the_same_kind_on_the_same_base_goes_on_with_what_is_staged() {
        let staged = Staged {
            kind: Kind::Incremental,
            parent: 7,
            floor: 4,
            whole: true,
        };
        let with = |staged| Line {
            staged: Some(staged),
            ..line()
        };
        assert!(open(Kind::Incremental, &with(staged)).resumes);
        assert!(!open(Kind::Differential, &with(staged)).resumes);
        assert!(!open(Kind::Full, &with(staged)).resumes);
        let torn = Staged {
            whole: false,
            ..staged
        };
        assert!(!open(Kind::Incremental, &with(torn)).resumes);
        // The full expired meanwhile: what was a differential can't be gone on with.
        let differential = Staged {
            kind: Kind::Differential,
            ..staged
        };
        let line = Line {
            full: None,
            ..with(differential)
        };
        let opening = open(Kind::Differential, &line);
        assert!(!opening.resumes && opening.kind == Kind::Full);
        // A full that died goes on, and has a base by that.
        let full = Staged {
            kind: Kind::Full,
            parent: 0,
            floor: 8,
            whole: true,
        };
        let opening = open(Kind::Full, &with(full));
        assert!(opening.resumes && opening.begins_alone() && opening.parent == 0);
    }
}
