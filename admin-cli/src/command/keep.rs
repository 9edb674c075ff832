//! The rules of retention on the command line: the same words make and change a plan, and preview.

use std::time::Duration;

use taf_peer::quantity::Span;
use taf_proto::v1::Retention;

/// How long versions are kept.
#[derive(Debug, clap::Args)]
#[command(
    next_help_heading = "How long versions are kept (all of them for ever if nothing is said)"
)]
pub struct Rules {
    /// Keep so many of the newest
    #[arg(long, value_name = "N")]
    keep_last: Option<u32>,
    /// Keep the newest of each of the last N hours that have one
    #[arg(long, value_name = "N")]
    keep_hourly: Option<u32>,
    /// Keep the newest of each of the last N days that have one
    #[arg(long, value_name = "N")]
    keep_daily: Option<u32>,
    /// Keep the newest of each of the last N weeks that have one
    #[arg(long, value_name = "N")]
    keep_weekly: Option<u32>,
    /// Keep the newest of each of the last N months that have one
    #[arg(long, value_name = "N")]
    keep_monthly: Option<u32>,
    /// Keep the newest of each of the last N years that have one
    #[arg(long, value_name = "N")]
    keep_yearly: Option<u32>,
    /// Keep all that began no longer than this before the newest, as in 36h or 30d
    #[arg(long, value_name = "TIME")]
    keep_within: Option<Span>,
    /// Keep all for N days
    #[arg(long, value_name = "N")]
    keep_days: Option<u32>,
    /// Keep all until the first day of the Nth month after theirs
    #[arg(long, value_name = "N")]
    keep_months: Option<u32>,
    /// Keep those with this tag; may be given several times
    #[arg(long = "keep-tag", value_name = "TAG")]
    keep_tags: Vec<String>,
    /// Let nobody give up a version before it is N days old, not even by force; can't be taken back for versions that are there
    #[arg(long, value_name = "N")]
    lock_days: Option<u32>,
    /// Time zone of these hours, days and months, as in Europe/Berlin; UTC unless told otherwise
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// Forget the rules there are: what is not given here with this is not kept by a rule; alone it keeps all
    #[arg(long)]
    keep_anew: bool,
}

impl Rules {
    /// Whether anything was given.
    pub fn is_given(&self) -> bool {
        self.counts().iter().any(Option::is_some)
            || self.keep_within.is_some()
            || self.time_zone.is_some()
            || !self.keep_tags.is_empty()
            || self.keep_anew
    }

    /// The rules that count, as [`counts`] has them.
    fn counts(&self) -> [Option<u32>; 9] {
        [
            self.keep_last,
            self.keep_hourly,
            self.keep_daily,
            self.keep_weekly,
            self.keep_monthly,
            self.keep_yearly,
            self.keep_days,
            self.keep_months,
            self.lock_days,
        ]
    }

    /// Puts what was given into the rules. False if nothing was.
    pub fn put(&self, into: &mut Retention) -> bool {
        if self.keep_anew {
            *into = Retention {
                lock_days: into.lock_days,
                time_zone: into.time_zone.clone(),
                ..Retention::default()
            };
        }
        for (given, field) in self.counts().into_iter().zip(counts(into)) {
            *field = given.unwrap_or(*field);
        }
        if let Some(Span(within)) = self.keep_within {
            into.keep_within = (!within.is_zero()).then(|| prost_types::Duration {
                seconds: within.as_secs().try_into().unwrap_or(i64::MAX),
                nanos: 0,
            });
        }
        if !self.keep_tags.is_empty() {
            into.keep_tags.clone_from(&self.keep_tags);
        }
        if let Some(zone) = &self.time_zone {
            into.time_zone.clone_from(zone);
        }
        self.is_given()
    }
}

/// The rules that count, in an order of their own.
fn counts(rules: &mut Retention) -> [&mut u32; 9] {
    [
        &mut rules.keep_last,
        &mut rules.keep_hourly,
        &mut rules.keep_daily,
        &mut rules.keep_weekly,
        &mut rules.keep_monthly,
        &mut rules.keep_yearly,
        &mut rules.keep_days,
        &mut rules.keep_months,
        &mut rules.lock_days,
    ]
}

/// Rules in the words in which they are given.
pub fn words(rules: &Retention) -> String {
    let mut words = Vec::new();
    for (word, count) in [
        ("last", rules.keep_last),
        ("hourly", rules.keep_hourly),
        ("daily", rules.keep_daily),
        ("weekly", rules.keep_weekly),
        ("monthly", rules.keep_monthly),
        ("yearly", rules.keep_yearly),
        ("days", rules.keep_days),
        ("months", rules.keep_months),
    ] {
        if count > 0 {
            words.push(format!("{word} {count}"));
        }
    }
    if let Some(within) = &rules.keep_within {
        let within = Duration::from_secs(within.seconds.max(0) as u64);
        words.push(format!("within {}", Span(within)));
    }
    words.extend(rules.keep_tags.iter().map(|tag| format!("tag {tag}")));
    if words.is_empty() {
        words.push("all".to_owned());
    }
    if rules.lock_days > 0 {
        words.push(format!("locked for {} days", rules.lock_days));
    }
    if !rules.time_zone.is_empty() {
        words.push(format!("by the time of {}", rules.time_zone));
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_said_as_they_are_given() {
        let rules = Retention {
            keep_last: 7,
            keep_daily: 14,
            keep_within: Some(prost_types::Duration {
                seconds: 129_600,
                nanos: 0,
            }),
            keep_tags: vec!["release".into()],
            lock_days: 30,
            time_zone: "Europe/Berlin".into(),
            ..Retention::default()
        };
        assert_eq!(
            words(&rules),
            "last 7, daily 14, within 1d12h, tag release, locked for 30 days, by the time of Europe/Berlin"
        );
        assert_eq!(words(&Retention::default()), "all");
    }
}
