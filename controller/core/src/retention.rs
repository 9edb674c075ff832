//! Which versions of a line are kept, and why; which are not, and why not.
//!
//! Pure: the time and its zone are passed in, and the same is decided however often it is asked. Rules only ever keep: a version
//! is kept if one of them says so, and what is decided of it carries all that do. Numbers order versions; their times only say
//! into which hour, day or year they fall. Without any rule all is kept.
//!
//! What a kept version needs of others (pages, parts) is not looked at here: it stays although those others expire.

mod calendar;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use jiff::tz::TimeZone;

pub use calendar::Unit;

/// What is kept. A rule that is 0, or empty, keeps nothing by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// So many of the newest.
    pub last: u32,
    /// The newest of each of the last so many hours, days, weeks, months and years that have any.
    pub of_units: [u32; 5],
    /// All that began no longer than so many seconds before the newest one.
    pub within_seconds: u64,
    /// All for so many days.
    pub days: u32,
    /// All until the first day of the month that comes so many months after theirs.
    pub months: u32,
    /// Those that bear one of these.
    pub tags: BTreeSet<String>,
}

impl Rules {
    /// Whether there is any: if not, all is kept.
    pub fn are_any(&self) -> bool {
        *self != Rules::default()
    }
}

/// The rules in words.
impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        if self.last > 0 {
            words.push(format!("last {}", self.last));
        }
        for (unit, of) in Unit::ALL.into_iter().zip(self.of_units) {
            if of > 0 {
                words.push(format!("{} {of}", unit.adjective()));
            }
        }
        if self.within_seconds > 0 {
            words.push(format!("within {}", calendar::span(self.within_seconds)));
        }
        if self.days > 0 {
            words.push(format!("for {} days", self.days));
        }
        if self.months > 0 {
            words.push(format!("for {} months", self.months));
        }
        words.extend(self.tags.iter().map(|tag| format!("tagged {tag}")));
        f.write_str(&words.join(", "))
    }
}

/// Until when a version is locked that is locked for so many days.
pub fn lock_until(at: Timestamp, days: u32, zone: &TimeZone) -> Timestamp {
    calendar::days_after(at, days, zone)
}

/// A version that is kept until now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its number.
    pub number: i64,
    /// When it was begun.
    pub at: Timestamp,
    /// Whether it is an archive, on a line of archives.
    pub archive: bool,
    /// How well it can be restored.
    pub condition: Condition,
    /// Why it is held, if it is.
    pub held: Option<String>,
    /// Nobody may let it expire before.
    pub locked_until: Option<Timestamp>,
    /// Its tags.
    pub tags: BTreeSet<String>,
}

/// How well a version can be restored; the better the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// A volume that it needs was erased.
    Lost,
    /// Parts of it were damaged when they were read last.
    Damaged,
    /// Nothing is known against it.
    Good,
}

/// A reason to keep a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// There are no rules.
    NoRules,
    /// It is an archive: no rule lets it expire.
    Archive,
    /// It is one of the newest.
    Last {
        /// Which one, from 1.
        nth: u32,
        /// Of how many.
        of: u32,
    },
    /// It is the newest of a unit of time.
    Newest {
        /// Of what.
        unit: Unit,
        /// Of which one, for people.
        label: String,
        /// Which one, from 1, counted from the newest.
        nth: u32,
        /// Of how many.
        of: u32,
    },
    /// It began not long before the newest one.
    Within {
        /// How long at most, seconds.
        seconds: u64,
    },
    /// It is not so many days old.
    Days {
        /// How many.
        days: u32,
        /// Until when that is so.
        until: Timestamp,
    },
    /// The month in which it ends has not come.
    Months {
        /// How many.
        months: u32,
        /// Until when that is so.
        until: Timestamp,
    },
    /// It bears a tag that is kept.
    Tag(String),
    /// Somebody holds it.
    Held(String),
    /// Nobody may let it expire yet.
    Locked(Timestamp),
    /// No other kept version of the line is as good.
    LastGood,
}

impl Reason {
    /// Until when it holds, if that is known.
    fn until(&self) -> Option<Timestamp> {
        match self {
            Reason::Days { until, .. } | Reason::Months { until, .. } | Reason::Locked(until) => {
                Some(*until)
            }
            _ => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NoRules => f.write_str("the plan has no rule by which versions expire"),
            Reason::Archive => f.write_str("an archive is kept until somebody lets it expire"),
            Reason::Last { nth, of } => write!(f, "last {nth} of {of}"),
            Reason::Newest {
                unit,
                label,
                nth,
                of,
            } => write!(f, "{} {nth} of {of}: newest of {label}", unit.adjective()),
            Reason::Within { seconds } => {
                write!(f, "within {} of the newest", calendar::span(*seconds))
            }
            Reason::Days { days, until } => {
                write!(f, "for {days} days, until {}", minute(*until))
            }
            Reason::Months { months, until } => {
                write!(f, "for {months} months, until {}", minute(*until))
            }
            Reason::Tag(tag) => write!(f, "tagged {tag}"),
            Reason::Held(why) => write!(f, "held: {why}"),
            Reason::Locked(until) => write!(f, "locked until {}", minute(*until)),
            Reason::LastGood => f.write_str("no other kept version of its line is as good"),
        }
    }
}

/// A moment to the minute.
fn minute(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// What is decided of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Its number.
    pub number: i64,
    /// Why it is kept; it expires if there is nothing.
    pub reasons: Vec<Reason>,
    /// Until when it is kept at the least, if nothing but the time is against its expiry; none if that is not known.
    pub until: Option<Timestamp>,
}

impl Decision {
    /// Whether it is kept.
    pub fn is_kept(&self) -> bool {
        !self.reasons.is_empty()
    }
}

/// Decides on the kept versions of a line; in the order of their numbers.
pub fn decide(
    rules: &Rules,
    versions: &[Version],
    zone: &TimeZone,
    now: Timestamp,
) -> Vec<Decision> {
    let mut order: Vec<&Version> = versions.iter().collect();
    order.sort_by_key(|version| version.number);
    let mut reasons: Vec<Vec<Reason>> = order
        .iter()
        .map(|version| by_itself(rules, version, zone, now))
        .collect();
    // One that can't be restored as it was takes nobody's place: what is chosen among all is kept, and among the good ones.
    let all: Vec<usize> = (0..order.len()).rev().collect();
    let good: Vec<usize> = all
        .iter()
        .copied()
        .filter(|&at| order[at].condition == Condition::Good)
        .collect();
    for among in [&all, &good] {
        for (at, reason) in by_count(rules, &order, among, zone) {
            let same = |known: &Reason| {
                std::mem::discriminant(known) == std::mem::discriminant(&reason)
                    && unit_of(known) == unit_of(&reason)
            };
            if !reasons[at].iter().any(same) {
                reasons[at].push(reason);
            }
        }
    }
    keep_best(&order, &mut reasons);
    order
        .iter()
        .zip(reasons)
        .map(|(version, reasons)| {
            let untils: Option<Vec<Timestamp>> = reasons.iter().map(Reason::until).collect();
            Decision {
                number: version.number,
                until: untils.and_then(|untils| untils.into_iter().max()),
                reasons,
            }
        })
        .collect()
}

fn unit_of(reason: &Reason) -> Option<Unit> {
    match reason {
        Reason::Newest { unit, .. } => Some(*unit),
        _ => None,
    }
}

/// What keeps a version whatever others there are.
fn by_itself(rules: &Rules, version: &Version, zone: &TimeZone, now: Timestamp) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if !rules.are_any() {
        reasons.push(Reason::NoRules);
    }
    if version.archive {
        reasons.push(Reason::Archive);
    }
    if let Some(why) = &version.held {
        reasons.push(Reason::Held(why.clone()));
    }
    if let Some(until) = version.locked_until.filter(|until| now < *until) {
        reasons.push(Reason::Locked(until));
    }
    let mut tags = version.tags.intersection(&rules.tags);
    reasons.extend(tags.next().map(|tag| Reason::Tag(tag.clone())));
    let (days, months) = (rules.days, rules.months);
    if days > 0 {
        let until = calendar::days_after(version.at, days, zone);
        reasons.extend((now < until).then_some(Reason::Days { days, until }));
    }
    if months > 0 {
        let until = calendar::month_after(version.at, months, zone);
        reasons.extend((now < until).then_some(Reason::Months { months, until }));
    }
    reasons
}

/// What the rules choose that count, among these, the newest first.
fn by_count(
    rules: &Rules,
    order: &[&Version],
    among: &[usize],
    zone: &TimeZone,
) -> Vec<(usize, Reason)> {
    let mut chosen = Vec::new();
    for (nth, &at) in (1..=rules.last).zip(among) {
        let of = rules.last;
        chosen.push((at, Reason::Last { nth, of }));
    }
    for (unit, of) in Unit::ALL.into_iter().zip(rules.of_units) {
        let mut seen = BTreeSet::new();
        for &at in among {
            if seen.len() as u64 >= u64::from(of) {
                break;
            }
            let label = unit.label(order[at].at, zone);
            if seen.insert(label.clone()) {
                let nth = seen.len() as u32;
                let newest = Reason::Newest {
                    unit,
                    label,
                    nth,
                    of,
                };
                chosen.push((at, newest));
            }
        }
    }
    if rules.within_seconds > 0
        && let Some(newest) = among.iter().map(|&at| order[at].at).max()
    {
        let seconds = rules.within_seconds;
        for &at in among {
            let age = newest.as_second().saturating_sub(order[at].at.as_second());
            if age.unsigned_abs() <= seconds {
                chosen.push((at, Reason::Within { seconds }));
            }
        }
    }
    chosen
}

/// The last good version never expires by itself: of those that are in the best condition the newest stays, unless another stays
/// that is as good.
fn keep_best(order: &[&Version], reasons: &mut [Vec<Reason>]) {
    let Some(best) = order.iter().map(|version| version.condition).max() else {
        return;
    };
    let of_best = |at: &usize| order[*at].condition == best;
    let mut ats = (0..order.len()).filter(of_best);
    if best == Condition::Lost || ats.any(|at| !reasons[at].is_empty()) {
        return;
    }
    if let Some(newest) = (0..order.len()).rev().find(of_best) {
        reasons[newest].push(Reason::LastGood);
    }
}

/// Why a version may not expire now although somebody asks for it; nothing if it may. `others` are the other kept versions of its
/// line.
pub fn refusal(
    version: &Version,
    others: &[Version],
    now: Timestamp,
    force: bool,
) -> Option<Reason> {
    if let Some(why) = &version.held {
        return Some(Reason::Held(why.clone()));
    }
    if let Some(until) = version.locked_until.filter(|until| now < *until) {
        return Some(Reason::Locked(until));
    }
    let as_good = others.iter().any(|o| o.condition >= version.condition);
    let last = !as_good && version.condition > Condition::Lost;
    (last && !force).then_some(Reason::LastGood)
}
