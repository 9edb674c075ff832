//! Retention: the rules of plans (`taf_core::retention`) on the versions of the catalog. Under a line's lock, so that no run is
//! just deciding to build on what expires.

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use prost::Message as _;
use taf_core::catalog::Kind;
use taf_core::retention::{self, Condition, Decision, Rules, Unit, Version};
use taf_proto::v1;

use crate::services::names;
use crate::store::audit::Entry;
use crate::store::retention::{Kept, RuledLine};
use crate::store::{self, Error, Store, expiry, lines};

/// Who lets versions expire by rules.
const CREATOR: &str = "controller";

/// The rules of a plan, ready to be applied.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The rules.
    pub rules: Rules,
    /// Whose days and months they mean.
    pub zone: TimeZone,
    /// For so many days nobody lets a version expire.
    pub lock_days: u32,
}

impl Policy {
    /// From the API's message; none if its time zone is not known.
    pub fn of(message: &v1::Retention) -> Option<Self> {
        let zone = match message.time_zone.as_str() {
            "" => TimeZone::UTC,
            name => TimeZone::get(name).ok()?,
        };
        let mut of_units = [0; 5];
        for (unit, count) in Unit::ALL.into_iter().zip(&mut of_units) {
            *count = match unit {
                Unit::Hour => message.keep_hourly,
                Unit::Day => message.keep_daily,
                Unit::Week => message.keep_weekly,
                Unit::Month => message.keep_monthly,
                Unit::Year => message.keep_yearly,
            };
        }
        let within = message.keep_within.as_ref();
        Some(Self {
            rules: Rules {
                last: message.keep_last,
                of_units,
                within_seconds: within.map_or(0, |within| within.seconds.max(0) as u64),
                days: message.keep_days,
                months: message.keep_months,
                tags: message.keep_tags.iter().cloned().collect(),
            },
            zone,
            lock_days: message.lock_days,
        })
    }

    fn of_line(line: &RuledLine) -> Result<Self, Error> {
        let message = v1::Retention::decode(line.retention.as_slice());
        let policy = message.ok().as_ref().and_then(Self::of);
        policy.ok_or(Error::Corrupt("the retention of a plan"))
    }

    /// What becomes of these versions now, in their order.
    pub fn decide(&self, kept: &[Kept], now: Timestamp) -> Vec<Decision> {
        let versions: Vec<Version> = kept.iter().map(version).collect();
        retention::decide(&self.rules, &versions, &self.zone, now)
    }
}

/// A row as the core has it.
pub fn version(kept: &Kept) -> Version {
    Version {
        number: kept.version,
        at: kept.started_at,
        archive: kept.kind == Kind::Archive.name(),
        condition: match (kept.lost, kept.damaged) {
            (true, _) => Condition::Lost,
            (false, true) => Condition::Damaged,
            (false, false) => Condition::Good,
        },
        held: kept.hold_reason.clone(),
        locked_until: kept.locked_until,
        tags: kept.tags.iter().cloned().collect::<BTreeSet<_>>(),
    }
}

/// The kept versions of lines with what is decided of each, by the plan's rules or by others.
pub async fn preview(
    client: &impl store::GenericClient,
    lines: &[RuledLine],
    instead: Option<&Policy>,
    now: Timestamp,
) -> Result<Vec<(i64, Kept, Decision, String)>, Error> {
    let mut found = Vec::new();
    for line in lines {
        let own = Policy::of_line(line)?;
        let policy = instead.unwrap_or(&own);
        let kept = store::retention::version_list_kept(client, line.id).await?;
        let decisions = policy.decide(&kept, now);
        let rules = policy.rules.to_string();
        let both = kept.into_iter().zip(decisions);
        found.extend(both.map(|(kept, decision)| (line.id, kept, decision, rules.clone())));
    }
    Ok(found)
}

/// What one version of a line is to be from now on.
enum Change {
    Lock(i64, Timestamp),
    Until(i64, Option<Timestamp>),
    Expire(i64),
}

fn changes(policy: &Policy, kept: &mut [Kept], now: Timestamp) -> Vec<Change> {
    let mut changes = Vec::new();
    for version in kept.iter_mut().filter(|_| policy.lock_days > 0) {
        let until = retention::lock_until(version.started_at, policy.lock_days, &policy.zone);
        if until > now && version.locked_until.is_none_or(|known| known < until) {
            version.locked_until = Some(until);
            changes.push(Change::Lock(version.version, until));
        }
    }
    let decisions = policy.decide(kept, now);
    for (version, decision) in kept.iter().zip(&decisions) {
        if !decision.is_kept() {
            changes.push(Change::Expire(version.version));
        } else if decision.until != version.keep_until {
            changes.push(Change::Until(version.version, decision.until));
        }
    }
    changes
}

/// Applies the rules of a line's plan now. Gives when time alone changes what they say, if it does, and how many versions expired.
pub async fn apply(
    store: &Store,
    line: &RuledLine,
    now: Timestamp,
) -> Result<(Option<Timestamp>, usize), Error> {
    let policy = Policy::of_line(line)?;
    let mut client = store.client().await?;
    let mut kept = store::retention::version_list_kept(&client, line.id).await?;
    let mut expired = Vec::new();
    if !changes(&policy, &mut kept, now).is_empty() {
        let tx = client.transaction().await?;
        lines::line_lock_on(&tx, line.id).await?;
        // Rules that were changed meanwhile are looked at at once, and those that are gone not at all.
        let revision = store::retention::line_revision_on(&tx, line.id).await?;
        if revision != Some(line.revision) {
            return Ok((revision.map(|_| now), 0));
        }
        kept = store::retention::version_list_kept(&tx, line.id).await?;
        let mut going = Vec::new();
        for change in changes(&policy, &mut kept, now) {
            match change {
                Change::Lock(version, until) => {
                    store::retention::version_lock_on(&tx, line.id, version, until).await?;
                }
                Change::Until(version, until) => {
                    store::retention::version_keep_until_on(&tx, line.id, version, until).await?;
                }
                Change::Expire(version) => going.push(version),
            }
        }
        let why = format!("no rule of its plan keeps it: {}", policy.rules);
        expired = expiry::version_expire_on(&tx, line.id, &going, &why).await?;
        for version in &expired {
            let subject = names::version(line.id, *version);
            let entry = Entry {
                actor: CREATOR,
                action: "RetentionService.ExpireVersion",
                subject: &subject,
                outcome: &why,
            };
            Store::audit_add_on(&*tx, &entry).await?;
        }
        tx.commit().await?;
        kept.retain(|version| !expired.contains(&version.version));
        if !expired.is_empty() {
            tracing::info!(line = line.id, versions = ?expired, "versions expired: {why}");
        }
    }
    let untils = policy.decide(&kept, now).into_iter();
    Ok((untils.filter_map(|d| d.until).min(), expired.len()))
}
