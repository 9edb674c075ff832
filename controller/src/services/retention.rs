//! How long versions are kept: previews of a plan's rules, expiry, holds, locks and tags.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use taf_core::catalog::Kind;
use taf_core::retention::{self, Decision, Reason};
use taf_proto::v1::retention_service_server::RetentionService;
use taf_proto::v1::{
    self, ExpireVersionRequest, ExpireVersionResponse, HoldVersionRequest, HoldVersionResponse,
    LockVersionRequest, LockVersionResponse, PreviewRetentionRequest, PreviewRetentionResponse,
    ReleaseVersionRequest, ReleaseVersionResponse, RetentionDecision, TagVersionRequest,
    TagVersionResponse,
};
use tonic::{Request, Response, Status};

use super::mutation::Mutation;
use super::status::{self, Violations};
use super::{gaps, names, timestamp};
use crate::access::Caller;
use crate::app::App;
use crate::catalog;
use crate::catalog::retention::{Policy, preview, version};
use crate::session::Registry;
use crate::store::retention::{self as rows, Protector};
use crate::store::versions;
use crate::store::{self, GenericClient, Transaction, expiry, lines, partials, unclaimed};

/// Most tags on a version.
const TAGS_MOST: usize = 32;
/// Most of a count in a rule.
const COUNT_MOST: u32 = 100_000;

/// `taf.v1.RetentionService`.
#[derive(Clone)]
pub struct Retentions {
    app: App,
    registry: Registry,
}

/// Checks rules of a request; what is wrong goes to `bad`, by fields below `field`.
pub(super) fn check(message: &v1::Retention, field: &str, bad: &mut Violations) {
    let counts = [
        ("keep_last", message.keep_last),
        ("keep_hourly", message.keep_hourly),
        ("keep_daily", message.keep_daily),
        ("keep_weekly", message.keep_weekly),
        ("keep_monthly", message.keep_monthly),
        ("keep_yearly", message.keep_yearly),
        ("keep_days", message.keep_days),
        ("keep_months", message.keep_months),
        ("lock_days", message.lock_days),
    ];
    for (name, count) in counts {
        if count > COUNT_MOST {
            bad.add(
                format!("{field}.{name}"),
                format!("must be at most {COUNT_MOST}"),
            );
        }
    }
    if let Some(within) = &message.keep_within
        && (within.seconds < 0 || within.nanos != 0)
    {
        bad.add(
            format!("{field}.keep_within"),
            "must be whole seconds, and not negative",
        );
    }
    if message.keep_tags.len() > TAGS_MOST || message.keep_tags.iter().any(|tag| !names::is_id(tag))
    {
        bad.add(
            format!("{field}.keep_tags"),
            format!("must be at most {TAGS_MOST} tags, each {}", names::ID_RULE),
        );
    }
    if Policy::of(message).is_none() {
        bad.add(
            format!("{field}.time_zone"),
            "must be a time zone as in Europe/Berlin, or empty for UTC",
        );
    }
}

/// What is said of how long kept versions are kept, by name.
pub(super) struct Keeping(HashMap<String, Kept>);

/// One of them.
struct Kept {
    row: rows::Kept,
    reasons: Vec<String>,
    until: Option<Timestamp>,
}

impl Keeping {
    /// That of all kept versions of these lines.
    pub(super) async fn of(
        client: &impl GenericClient,
        lines: impl IntoIterator<Item = i64>,
    ) -> Result<Self, store::Error> {
        let mut found = HashMap::new();
        for line in lines.into_iter().collect::<BTreeSet<i64>>() {
            let lines = rows::line_list_of(client, None, Some(line)).await?;
            for (line, row, decision, rules) in preview(client, &lines, None, store::now()).await? {
                let name = names::version(line, row.version);
                let kept = Kept {
                    row,
                    reasons: reasons(&decision, &rules),
                    until: decision.until,
                };
                found.insert(name, kept);
            }
        }
        Ok(Self(found))
    }

    /// Puts it into the message of a version.
    pub(super) fn tell(&self, version: &mut v1::Version) {
        let Some(kept) = self.0.get(&version.name) else {
            return;
        };
        version.hold_reason = kept.row.hold_reason.clone().unwrap_or_default();
        version.lock_time = kept.row.locked_until.map(timestamp);
        version.tags.clone_from(&kept.row.tags);
        version.keep_reasons.clone_from(&kept.reasons);
        version.keep_time = kept.until.map(timestamp);
    }
}

/// Why a version is kept, or what would have kept it.
fn reasons(decision: &Decision, rules: &str) -> Vec<String> {
    if decision.is_kept() {
        return decision.reasons.iter().map(Reason::to_string).collect();
    }
    vec![format!("no rule keeps it: {rules}")]
}

/// Why a version may not expire.
fn refused(name: &str, reason: &Reason) -> Status {
    match reason {
        Reason::Held(why) => status::precondition(
            "VERSION_HELD",
            format!("{name} is held ({why}): release it first with `taf version release`"),
        ),
        Reason::Locked(until) => locked(name, *until),
        _ => status::precondition(
            "LAST_GOOD_VERSION",
            format!(
                "{name} is the last good version of its line: run the plan once more first; only --force gives it up"
            ),
        ),
    }
}

fn locked(name: &str, until: Timestamp) -> Status {
    status::precondition(
        "VERSION_LOCKED",
        format!("{name} is locked until {until}, and a lock can't be made shorter: wait for it"),
    )
}

/// Whether a version that is whole may expire.
async fn may_expire(
    tx: &Transaction<'_>,
    line: i64,
    number: i64,
    request: &ExpireVersionRequest,
) -> Result<(), Status> {
    let kept = rows::version_list_kept(tx, line).await?;
    let (this, others): (Vec<_>, Vec<_>) = kept
        .iter()
        .map(version)
        .partition(|version| version.number == number);
    let this = this
        .first()
        .ok_or_else(|| status::not_found(&request.name))?;
    match retention::refusal(this, &others, store::now(), request.force) {
        Some(reason) => Err(refused(&request.name, &reason)),
        None => Ok(()),
    }
}

/// Whether a version may be given up that is not whole. What would be lost is told without force.
async fn may_give_up(
    tx: &Transaction<'_>,
    (line, number): (i64, i64),
    request: &ExpireVersionRequest,
    why: &str,
) -> Result<(), Status> {
    let name = &request.name;
    // It would show nothing any more, and nobody would have said so.
    if let Some(same) = partials::version_same_on(tx, line, number).await? {
        return Err(status::precondition(
            "VERSION_NEEDED",
            format!(
                "in version {same} nothing had changed since {name}, so it lacks the same, and would lack everything: give that one up first, and wait for what reads it"
            ),
        ));
    }
    if !partials::version_is_counted_on(tx, line, number).await? {
        return Err(status::precondition(
            "VERSION_NOT_COUNTED",
            format!(
                "nobody has counted yet what {name} lacks, nor what would be lost: try again in some minutes, or take in its cartridge again with `taf catalog rebuild`"
            ),
        ));
    }
    if request.force || request.dry_run {
        return Ok(());
    }
    let instead = "give it up with --force if that won't come: --dry-run says what is lost";
    Err(gaps::incomplete(name, why, instead))
}

impl Retentions {
    /// The service.
    pub fn new(app: App, registry: Registry) -> Self {
        Self { app, registry }
    }

    async fn preview(
        &self,
        request: &PreviewRetentionRequest,
    ) -> Result<PreviewRetentionResponse, Status> {
        let mut bad = Violations::new();
        let plan = bad
            .read("plan", names::plan_id(&request.plan))
            .unwrap_or_default();
        if let Some(retention) = &request.retention {
            check(retention, "retention", &mut bad);
        }
        bad.check()?;
        let instead = request.retention.as_ref().and_then(Policy::of);
        let client = self.app.store.client().await?;
        let lines = rows::line_list_of(&client, Some(plan), None).await?;
        if lines.is_empty() {
            return Err(status::not_found(&request.plan));
        }
        let found = preview(&client, &lines, instead.as_ref(), store::now()).await?;
        let decisions = found
            .into_iter()
            .map(|(line, kept, decision, rules)| RetentionDecision {
                version: names::version(line, kept.version),
                number: kept.version as u64,
                start_time: Some(timestamp(kept.started_at)),
                kept: decision.is_kept(),
                reasons: reasons(&decision, &rules),
                until: decision.until.map(timestamp),
                archive: kept.kind == Kind::Archive.name(),
            });
        Ok(PreviewRetentionResponse {
            decisions: decisions.collect(),
        })
    }

    async fn expire(
        &self,
        mutation: &Mutation,
        request: &ExpireVersionRequest,
    ) -> Result<ExpireVersionResponse, Status> {
        let name = &request.name;
        let (line, number) =
            names::version_numbers(name).map_err(|e| status::invalid("name", e))?;
        let mut client = self.app.store.client().await?;
        let tx = client.transaction().await.map_err(store::Error::from)?;
        if !request.dry_run
            && let Some(answer) = mutation.begin_on(&tx).await?
        {
            return Ok(answer);
        }
        lines::line_lock_on(&tx, line)
            .await?
            .ok_or_else(|| status::not_found(name))?;
        let partial = versions::version_look(&tx, line, number)
            .await?
            .filter(|version| version.incomplete_reason.is_some());
        let untold = unclaimed::version_untold(&tx, line, number).await?;
        let why_untold = untold.as_ref().map(gaps::untold);
        let lacks = partial
            .as_ref()
            .and_then(|version| version.incomplete_reason.clone())
            .or(why_untold);
        if let Some(why) = &lacks {
            may_give_up(&tx, (line, number), request, why).await?;
            // What others need of it stays, also if nobody has counted yet what they lack themselves.
            catalog::hold_on(&tx, line).await?;
        } else {
            may_expire(&tx, line, number, request).await?;
        }
        if let Some(job) = rows::removal_of_source(&tx, line).await? {
            let job = names::job(job);
            return Err(status::precondition(
                "SOURCES_BEING_REMOVED",
                format!(
                    "{job} removes from the source of {name} what is archived of it, and counts copies: wait for it"
                ),
            ));
        }
        if !request.force && rows::version_is_sole(&tx, line, number).await? {
            return Err(status::precondition(
                "SOURCES_REMOVED",
                format!(
                    "what {name} holds was removed from where it came, so this may be the only copy: restore it first; only --force gives it up"
                ),
            ));
        }
        let freed = rows::version_frees(&tx, line, number).await?;
        let protector = rows::version_protected_by(&tx, line, number).await?;
        let partial = partial.as_ref();
        // No run builds on what is not whole.
        let protector = protector.filter(|it| lacks.is_none() || matches!(it, Protector::Job(_)));
        let answer = ExpireVersionResponse {
            incomplete_reason: lacks.unwrap_or_default(),
            lost_unknown: untold.is_some(),
            lost_file_count: partial.map_or(0, |version| version.file_count as u64),
            lost_byte_count: partial.map_or(0, |version| version.byte_count as u64),
            freed_part_count: freed.parts as u64,
            freed_byte_count: freed.bytes as u64,
            freed_volumes: freed.volumes.iter().map(|v| names::volume(v)).collect(),
            waiting_for: protector.map(waits).unwrap_or_default(),
        };
        if request.dry_run {
            // Dropped without a commit, so nothing was done.
            return Ok(answer);
        }
        let actor = mutation.actor();
        let done = if partial.is_some() {
            let why = format!("{actor} gave it up, which was not whole");
            partials::version_give_up_on(&tx, line, number, &why).await?
        } else if untold.is_some() {
            unclaimed::version_give_up_untold_on(&tx, line, number).await?
        } else {
            let why = format!("{actor} let it expire");
            !expiry::version_expire_on(&tx, line, &[number], &why)
                .await?
                .is_empty()
        };
        if !done {
            return Err(store::Error::Stale("version").into());
        }
        mutation.finish_on(&tx, &answer).await?;
        tx.commit().await.map_err(store::Error::from)?;
        self.registry.wake();
        Ok(answer)
    }

    /// Does something to a kept version, which must be there.
    async fn change<A, F>(&self, mutation: &Mutation, name: &str, change: F) -> Result<A, Status>
    where
        A: prost::Message + Default,
        F: AsyncFnOnce(&Transaction<'_>, i64, i64) -> Result<A, Status>,
    {
        let (line, number) =
            names::version_numbers(name).map_err(|e| status::invalid("name", e))?;
        let mut client = self.app.store.client().await?;
        let tx = client.transaction().await.map_err(store::Error::from)?;
        if let Some(answer) = mutation.begin_on(&tx).await? {
            return Ok(answer);
        }
        // Whoever decides which versions expire holds the line, and reads tags, which are no column of the version.
        if lines::line_lock_on(&tx, line).await?.is_none()
            || !expiry::version_take_on(&tx, line, number).await?
        {
            return Err(status::not_found(name));
        }
        let answer = change(&tx, line, number).await?;
        mutation.finish_on(&tx, &answer).await?;
        tx.commit().await.map_err(store::Error::from)?;
        Ok(answer)
    }

    async fn tag(
        &self,
        mutation: &Mutation,
        request: &TagVersionRequest,
    ) -> Result<TagVersionResponse, Status> {
        let mut bad = Violations::new();
        for (field, tags) in [
            ("add_tags", &request.add_tags),
            ("remove_tags", &request.remove_tags),
        ] {
            if tags.iter().any(|tag| !names::is_id(tag)) {
                bad.add(field, format!("must each be {}", names::ID_RULE));
            }
        }
        bad.check()?;
        let (add, remove) = (&request.add_tags, &request.remove_tags);
        self.change(mutation, &request.name, async |tx, line, number| {
            let tags = rows::version_tag_on(tx, line, number, add, remove).await?;
            if tags.len() > TAGS_MOST {
                return Err(status::precondition(
                    "TOO_MANY_TAGS",
                    format!(
                        "{} would have {} tags, and {TAGS_MOST} is the most: take others off",
                        request.name,
                        tags.len()
                    ),
                ));
            }
            Ok(TagVersionResponse { tags })
        })
        .await
    }

    async fn lock(
        &self,
        mutation: &Mutation,
        request: &LockVersionRequest,
    ) -> Result<LockVersionResponse, Status> {
        let until = request.lock_time.as_ref().and_then(|time| {
            Timestamp::new(time.seconds, 0)
                .ok()
                .filter(|until| *until > store::now())
        });
        let until = until.ok_or_else(|| status::invalid("lock_time", "must be in the future"))?;
        self.change(mutation, &request.name, async |tx, line, number| {
            if rows::version_lock_on(tx, line, number, until).await? {
                return Ok(LockVersionResponse {});
            }
            let kept = rows::version_list_kept(tx, line).await?;
            let known = kept.iter().find(|v| v.version == number);
            let known = known.and_then(|v| v.locked_until).unwrap_or(until);
            Err(locked(&request.name, known))
        })
        .await
    }
}

/// What has to happen before what a version needs is given free.
fn waits(protector: Protector) -> String {
    match protector {
        Protector::Job(job) => format!("the end of {}, which reads it", names::job(job)),
        Protector::Newest => {
            "the next version of its line, which may build on it: it is the newest".to_owned()
        }
        Protector::Base => "the end of a run that builds on it".to_owned(),
    }
}

/// The mutation that an RPC is.
fn mutation<T, M: prost::Message>(
    request: &Request<T>,
    action: &'static str,
    subject: &str,
    request_id: &str,
    content: &M,
) -> Result<Mutation, Status> {
    let caller = Caller::of(request)?.clone();
    Mutation::new(&caller, action, subject, request_id, content)
}

#[tonic::async_trait]
impl RetentionService for Retentions {
    async fn preview_retention(
        &self,
        request: Request<PreviewRetentionRequest>,
    ) -> Result<Response<PreviewRetentionResponse>, Status> {
        self.preview(request.get_ref()).await.map(Response::new)
    }

    async fn expire_version(
        &self,
        request: Request<ExpireVersionRequest>,
    ) -> Result<Response<ExpireVersionResponse>, Status> {
        let content = request.get_ref();
        let how = if content.force { " by force" } else { "" };
        let subject = format!("{}{how}", content.name);
        let id = content.request_id.as_str();
        let mutation = mutation(
            &request,
            "RetentionService.ExpireVersion",
            &subject,
            id,
            content,
        )?;
        let outcome = self.expire(&mutation, content).await;
        if content.dry_run {
            return outcome.map(Response::new);
        }
        mutation.concluded(&self.app.store, outcome).await
    }

    async fn hold_version(
        &self,
        request: Request<HoldVersionRequest>,
    ) -> Result<Response<HoldVersionResponse>, Status> {
        let content = request.get_ref();
        let (name, id) = (content.name.as_str(), content.request_id.as_str());
        let mutation = mutation(&request, "RetentionService.HoldVersion", name, id, content)?;
        let reason = match content.reason.trim() {
            "" => "no reason given",
            reason => reason,
        };
        let hold = async |tx: &Transaction<'_>, line, number| {
            rows::version_hold_on(tx, line, number, Some(reason)).await?;
            Ok(HoldVersionResponse {})
        };
        let outcome = self.change(&mutation, name, hold).await;
        mutation.concluded(&self.app.store, outcome).await
    }

    async fn release_version(
        &self,
        request: Request<ReleaseVersionRequest>,
    ) -> Result<Response<ReleaseVersionResponse>, Status> {
        let content = request.get_ref();
        let (name, id) = (content.name.as_str(), content.request_id.as_str());
        let mutation = mutation(
            &request,
            "RetentionService.ReleaseVersion",
            name,
            id,
            content,
        )?;
        let release = async |tx: &Transaction<'_>, line, number| {
            rows::version_hold_on(tx, line, number, None).await?;
            Ok(ReleaseVersionResponse {})
        };
        let outcome = self.change(&mutation, name, release).await;
        mutation.concluded(&self.app.store, outcome).await
    }

    async fn lock_version(
        &self,
        request: Request<LockVersionRequest>,
    ) -> Result<Response<LockVersionResponse>, Status> {
        let content = request.get_ref();
        let (name, id) = (content.name.as_str(), content.request_id.as_str());
        let mutation = mutation(&request, "RetentionService.LockVersion", name, id, content)?;
        let outcome = self.lock(&mutation, content).await;
        mutation.concluded(&self.app.store, outcome).await
    }

    async fn tag_version(
        &self,
        request: Request<TagVersionRequest>,
    ) -> Result<Response<TagVersionResponse>, Status> {
        let content = request.get_ref();
        let (name, id) = (content.name.as_str(), content.request_id.as_str());
        let mutation = mutation(&request, "RetentionService.TagVersion", name, id, content)?;
        let outcome = self.tag(&mutation, content).await;
        mutation.concluded(&self.app.store, outcome).await
    }
}
