//! Bringing a version back: what a restore asks for is checked and counted, and becomes a job.

use prost::Message as _;
use taf_peer::identity::Role;
use taf_proto::path;
use taf_proto::v1::{
    self, Collision, OwnerKind, OwnerRule, RestoreVersionRequest, RestoreVersionResponse,
};
use tonic::{Code, Status};

use super::mutation::Mutation;
use super::status::{self, Violations};
use super::version::{Versions, no_parts, readable, relative};
use super::{gaps, names, recall_plan};
use crate::catalog::gap::{self, Lacking, What};
use crate::catalog::{Patterns, Selection, View, extra, recall};
use crate::store::jobs::{self, NewRestore};
use crate::store::removals::{self, NewExtra};
use crate::store::versions::Version;
use crate::store::{self, expiry};

/// Most components that can be left out.
const COMPONENTS_MOST: u32 = 1_000;
/// Most drives that can be asked for.
const DRIVES_MOST: u32 = 1_000;
/// Most rules of owners.
const RULES_MOST: usize = 10_000;
/// Longest name of an owner, bytes.
const NAME_MOST: usize = 256;

impl Versions {
    pub(super) async fn restore(
        &self,
        mutation: Option<&Mutation>,
        request: &RestoreVersionRequest,
    ) -> Result<RestoreVersionResponse, Status> {
        if let Some(mutation) = mutation {
            // Counting takes a while: a repeated request does not do it again.
            let mut client = self.app.store.client().await?;
            let tx = client.transaction().await.map_err(store::Error::from)?;
            if let Some(answer) = mutation.begin_on(&tx).await? {
                return Ok(answer);
            }
        }
        let wanted = Wanted::read(request, !request.verify_only)?;
        let planned = self.plan(request, &wanted).await?;
        let Some(mutation) = mutation else {
            return Ok(planned.answer);
        };
        if request.dry_run {
            return self.list_extra(mutation, planned).await;
        }
        let mut client = self.app.store.client().await?;
        let tx = client.transaction().await.map_err(store::Error::from)?;
        if let Some(answer) = mutation.begin_on(&tx).await? {
            return Ok(answer);
        }
        let (_, answer) = self.restore_on(&tx, planned, mutation.actor()).await?;
        mutation.finish_on(&tx, &answer).await?;
        tx.commit().await.map_err(store::Error::from)?;
        self.registry.wake();
        Ok(answer)
    }

    /// What a restore that writes nowhere would do.
    pub(super) async fn plan_dump(
        &self,
        request: &RestoreVersionRequest,
    ) -> Result<Planned, Status> {
        let wanted = Wanted::read(request, false)?;
        self.plan(request, &wanted).await
    }

    /// Checks and counts all that is asked for.
    async fn plan(
        &self,
        request: &RestoreVersionRequest,
        wanted: &Wanted,
    ) -> Result<Planned, Status> {
        let (version, view) = self.known("version", &request.version).await?;
        readable(&request.version, &version)?;
        let (agent_id, agent) = self.agent(&version, &request.agent).await?;
        let client = self.app.store.client().await?;
        let parts = view.parts(&client).await?;
        drop(client);
        let chosen = wanted.choose(&view).await?;
        let selection = &chosen.selection;
        let lacks = lacks(&view, selection).await?;
        if lacks.is_any() && !request.partial && !request.dry_run {
            return Err(lacks.refusal(request, &version));
        }
        if view.gap().is_some() && !request.dry_run {
            self.knows_gaps(&agent).await?;
        }
        let (count, needed) = recall::count(&view, selection, &chosen.strip, &parts).await?;
        if request.delete_extra {
            if version.incomplete_reason.is_some() {
                return Err(listing_unknown(lacks.first.as_deref().unwrap_or(b"/")));
            }
            self.may_delete_extra(&view, &chosen, &version, wanted)
                .await?;
        }
        let client = self.app.store.client().await?;
        let plan = recall_plan::plan(&client, &needed, request.drives).await?;
        let (needs, mut turns, mut answer) = (plan.volumes, plan.turns, plan.answer);
        if request.partial {
            // What is not known is told once, with all that is.
            turns = vec![1; needs.len()];
        }
        drop(client);
        answer.entry_count = count.entries;
        answer.byte_count = count.bytes;
        answer.unknown_directory_count = lacks.directories;
        answer.unmet_entry_count = lacks.entries;
        if let (true, Some(gap)) = (lacks.is_any(), view.gap()) {
            answer.lacking_volumes = gaps::volumes(&gap);
        }
        let agent = names::agent(&agent);
        Ok(Planned {
            kept: wanted.kept(request, agent.clone(), &chosen.strip),
            first_volume: parts.first().map(|part| part.volume_id),
            version,
            agent_id,
            agent,
            chosen,
            needs,
            turns,
            answer,
        })
    }

    /// Makes the job. Gives its number, and the answer that tells of it.
    pub(super) async fn restore_on(
        &self,
        tx: &store::Transaction<'_>,
        planned: Planned,
        actor: &str,
    ) -> Result<(i64, RestoreVersionResponse), Status> {
        let Planned {
            version,
            mut needs,
            mut turns,
            mut answer,
            kept,
            ..
        } = planned;
        // Of what has no bytes on tape the first volume will do.
        if needs.is_empty() {
            let first = planned.first_volume;
            needs.push(first.ok_or_else(|| no_parts(&kept.version))?);
            turns.push(1);
        }
        // From here on it can't expire before it is seen that it is read.
        if !expiry::version_use_on(tx, version.line_id, version.version).await? {
            return Err(status::not_found(&kept.version));
        }
        let paths = planned.chosen.kept();
        let new = NewRestore {
            line_id: version.line_id,
            version: version.version,
            agent_id: planned.agent_id,
            volumes: &needs,
            turns: &turns,
            request: &kept.encode_to_vec(),
            paths: paths.as_deref(),
            entry_count: store::bigint(answer.entry_count)?,
            byte_total: store::bigint(answer.byte_count)?,
        };
        let job = jobs::job_create_restore_on(tx, &new, actor).await?;
        answer.job = names::job(job);
        Ok((job, answer))
    }

    /// Refuses to remove what is extra where that can't be told.
    async fn may_delete_extra(
        &self,
        view: &View,
        chosen: &Chosen,
        version: &Version,
        wanted: &Wanted,
    ) -> Result<(), Status> {
        let Chosen {
            selection, strip, ..
        } = chosen;
        let taken = extra::Taken::of(view).await?;
        if let Some(directory) = extra::unknown(view, selection, &taken).await? {
            return Err(listing_unknown(&directory));
        }
        // There is more there than the version was asked to hold: what rules left out, what could not be read, what is mounted.
        if wanted.is_at_origin(strip) {
            return Err(status::precondition(
                "DELETE_AT_ORIGIN",
                format!(
                    "what the version of source {} does not have would be removed at the origin, also what was never to be in it or could not be read: restore below another directory",
                    version.source
                ),
            ));
        }
        Ok(())
    }

    /// Makes the job that lists what is extra.
    async fn list_extra(
        &self,
        mutation: &Mutation,
        planned: Planned,
    ) -> Result<RestoreVersionResponse, Status> {
        let Planned {
            version,
            agent_id,
            kept: request,
            chosen,
            mut answer,
            ..
        } = planned;
        let mut client = self.app.store.client().await?;
        let tx = client.transaction().await.map_err(store::Error::from)?;
        if let Some(answer) = mutation.begin_on(&tx).await? {
            return Ok(answer);
        }
        // From here on it can't expire before it is seen that it is read.
        if !expiry::version_use_on(&tx, version.line_id, version.version).await? {
            return Err(status::not_found(&request.version));
        }
        let paths = chosen.kept();
        let new = NewExtra {
            line_id: version.line_id,
            version: version.version,
            agent_id,
            request: &request.encode_to_vec(),
            paths: paths.as_deref(),
            cause: None,
        };
        let job = removals::job_create_extra_on(&tx, &new, mutation.actor()).await?;
        answer.job = names::job(job);
        mutation.finish_on(&tx, &answer).await?;
        tx.commit().await.map_err(store::Error::from)?;
        self.registry.wake();
        Ok(answer)
    }

    /// Refuses an agent that would leave out without a word what a version lacks.
    async fn knows_gaps(&self, agent: &str) -> Result<(), Status> {
        let agent = self.app.store.agent_get(agent).await?;
        match agent.as_ref().and_then(gaps::too_old) {
            Some(fault) => Err(status::because(
                &fault.reason,
                fault.message,
                &fault.next_step,
            )),
            None => Ok(()),
        }
    }

    /// Who writes: the agent named, or the one whose files they were.
    async fn agent(&self, version: &Version, name: &str) -> Result<(i64, String), Status> {
        if name.is_empty() {
            return Ok((version.agent_id, version.agent.clone()));
        }
        let id = names::agent_id(name).map_err(|e| status::invalid("agent", e))?;
        let agent = self
            .app
            .store
            .agent_get(id)
            .await?
            .ok_or_else(|| status::not_found(name))?;
        if agent.role != Role::SourceAgent {
            return Err(status::precondition(
                "NOT_A_SOURCE_AGENT",
                format!("{name} is a tape agent: name a source agent to write on"),
            ));
        }
        Ok((agent.id, agent.name))
    }
}

/// What a restore would do, and what its job is made from.
pub(super) struct Planned {
    version: Version,
    /// Who reads and writes.
    pub(super) agent_id: i64,
    /// Its resource name.
    pub(super) agent: String,
    chosen: Chosen,
    /// What is kept of the request.
    kept: RestoreVersionRequest,
    /// Volumes in the order in which they are read.
    needs: Vec<i64>,
    /// The turn that each of them is read in.
    turns: Vec<i32>,
    /// The first of the whole version.
    first_volume: Option<i64>,
    /// The plan as it is told.
    pub(super) answer: RestoreVersionResponse,
}

/// What of a selection is not known or can't be read, since the version is not whole.
#[derive(Default)]
struct Lacks {
    directories: u64,
    entries: u64,
    /// Absolute path of the first, and what is said of it.
    first: Option<Vec<u8>>,
    why: String,
}

async fn lacks(view: &View, selection: &Selection) -> Result<Lacks, Status> {
    let mut found = Lacks::default();
    let Some(mut lacking) = Lacking::of(view, selection) else {
        return Ok(found);
    };
    while let Some(some) = lacking.next().await? {
        for lack in some {
            match lack.what {
                What::Unknown => found.directories += 1,
                What::NotMet => found.entries += 1,
            }
            if found.first.is_none() {
                found.first = Some([b"/", lack.path.as_slice()].concat());
                found.why = lack.message;
            }
        }
    }
    Ok(found)
}

impl Lacks {
    fn is_any(&self) -> bool {
        self.directories + self.entries > 0
    }

    fn refusal(&self, request: &RestoreVersionRequest, version: &Version) -> Status {
        let first = path::display(self.first.as_deref().unwrap_or_default());
        let more = match self.directories + self.entries {
            1 => String::new(),
            all => format!(", and {} more like it", all - 1),
        };
        let name = format!("{} of plan {}", request.version, version.plan);
        gaps::incomplete(
            &name,
            &format!("{first}: {}{more}", self.why),
            "restore what there is of it with --partial, which names the rest as issues, or choose another version or other paths",
        )
    }
}

fn listing_unknown(directory: &[u8]) -> Status {
    status::precondition(
        "LISTING_UNKNOWN",
        format!(
            "the version does not know what was in {}, so nothing there can be told to be extra: choose another version, or paths without it",
            path::display(directory)
        ),
    )
}

/// What a restore asks for, read once. Paths are without slash at either end; empty is the root.
struct Wanted {
    paths: Vec<Vec<u8>>,
    patterns: Patterns,
    strip_components: usize,
    strip_prefix: Option<Vec<u8>>,
    prefix: Vec<u8>,
    /// With a slash in front; none if nothing is written.
    target: Option<Vec<u8>>,
    collision: Collision,
}

/// What of a version is meant.
struct Chosen {
    /// Without slashes at the ends; none means everything.
    paths: Vec<Vec<u8>>,
    selection: Selection,
    /// The directory that is left out of every path.
    strip: Vec<u8>,
}

impl Chosen {
    /// The paths as they are kept with the job: each with a zero byte behind it.
    fn kept(&self) -> Option<Vec<u8>> {
        let zero = |path: &Vec<u8>| [path.as_slice(), b"\0"].concat();
        (!self.paths.is_empty()).then(|| self.paths.iter().flat_map(zero).collect())
    }
}

/// The paths that were kept with a job.
pub(super) fn chosen_paths(kept: &[u8]) -> Vec<Vec<u8>> {
    let kept = kept.strip_suffix(b"\0").unwrap_or(kept);
    kept.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect()
}

impl Wanted {
    fn read(request: &RestoreVersionRequest, writes: bool) -> Result<Self, Status> {
        let mut bad = Violations::new();
        let mut paths = Vec::with_capacity(request.paths.len());
        for (at, path) in request.paths.iter().enumerate() {
            paths.extend(bad.read(&format!("paths[{at}]"), relative(Some(path))));
        }
        let patterns = Patterns::read(&request.patterns).map_err(|(at, why)| {
            let field = match request.patterns.get(at) {
                Some(_) => format!("patterns[{at}]"),
                None => "patterns".to_owned(),
            };
            status::invalid(&field, why)
        })?;
        let mut optional = |field: &str, given: Option<&v1::Path>| {
            given.and_then(|given| bad.read(field, relative(Some(given))))
        };
        let strip_prefix = optional("strip_prefix", request.strip_prefix.as_ref());
        let prefix = optional("prefix", request.prefix.as_ref()).unwrap_or_default();
        let target = match &request.target {
            None if !writes => None,
            given => Some(
                bad.read("target", relative(given.as_ref()))
                    .unwrap_or_default(),
            ),
        };
        if request.strip_components > 0 && strip_prefix.is_some() {
            bad.add(
                "strip_components",
                "can't be given together with strip_prefix",
            );
        }
        if request.strip_components > COMPONENTS_MOST {
            bad.add(
                "strip_components",
                format!("must be at most {COMPONENTS_MOST}"),
            );
        }
        if request.drives > DRIVES_MOST {
            bad.add("drives", format!("must be at most {DRIVES_MOST}"));
        }
        if request.verify_only && request.delete_extra {
            bad.add("verify_only", "can't be given together with delete_extra");
        }
        if request.owner_rules.len() > RULES_MOST {
            bad.add("owner_rules", format!("must be at most {RULES_MOST} rules"));
        }
        for (at, rule) in request.owner_rules.iter().enumerate() {
            if let Err(why) = owner_rule(rule) {
                bad.add(format!("owner_rules[{at}]"), why);
            }
        }
        let collision = Collision::try_from(request.collision).unwrap_or_else(|_| {
            bad.add("collision", "must be a value of Collision");
            Collision::Unspecified
        });
        bad.check()?;
        Ok(Self {
            paths,
            patterns,
            strip_components: request.strip_components as usize,
            strip_prefix,
            prefix,
            target: target.map(|target| [b"/", target.as_slice()].concat()),
            collision,
        })
    }

    /// What of the version it means.
    async fn choose(&self, view: &View) -> Result<Chosen, Status> {
        let mut paths = self.paths.clone();
        if !self.patterns.is_empty() && gap::is_unknown_below(view, b"").await? {
            let why = view.gap().and_then(|gap| gap.unknown());
            return Err(status::precondition(
                "VERSION_INCOMPLETE",
                format!(
                    "what patterns match is not known of all of the version, since it is not whole ({}): bring what it lacks, or restore what `taf find` finds of it, with --files-from",
                    why.unwrap_or_default()
                ),
            ));
        }
        paths.extend(self.patterns.resolve(view).await?);
        if let (Some(strip), true) = (&self.strip_prefix, paths.is_empty()) {
            paths.push(strip.clone());
        }
        let selection = Selection::resolve(view, &paths).await?;
        let strip = match &self.strip_prefix {
            Some(strip) if !selection.is_within(strip) => {
                return Err(ambiguous(format!(
                    "not all that is chosen is below {}: choose paths that are, or strip less",
                    path::display(&[b"/", strip.as_slice()].concat())
                )));
            }
            Some(strip) => strip.clone(),
            None if self.strip_components == 0 => Vec::new(),
            None => {
                let leading = selection.leading(view, self.strip_components).await?;
                leading.ok_or_else(|| {
                    ambiguous(format!(
                        "the first {} components are not the same for all that is chosen, so what is left of two paths could be the same: choose paths that have them in common, or strip less",
                        self.strip_components
                    ))
                })?
            }
        };
        Ok(Chosen {
            paths,
            selection,
            strip,
        })
    }

    /// Whether everything goes to where it came from.
    fn is_at_origin(&self, strip: &[u8]) -> bool {
        let target = self.target.as_deref().unwrap_or_default();
        let below = [target.strip_suffix(b"/").unwrap_or(target), &self.prefix].join(&b'/');
        let below = below.strip_suffix(b"/").unwrap_or(&below);
        below.strip_prefix(b"/").unwrap_or(below) == strip
    }

    /// What is kept of the request: checked, and without its paths.
    fn kept(
        &self,
        request: &RestoreVersionRequest,
        agent: String,
        strip: &[u8],
    ) -> RestoreVersionRequest {
        let rooted = |relative: &[u8]| path::from_raw([b"/", relative].concat());
        RestoreVersionRequest {
            version: request.version.clone(),
            paths: Vec::new(),
            patterns: Vec::new(),
            agent,
            target: self.target.clone().map(path::from_raw),
            collision: self.collision.into(),
            dry_run: request.dry_run,
            request_id: String::new(),
            delete_extra: request.delete_extra,
            strip_components: 0,
            strip_prefix: Some(rooted(strip)),
            prefix: Some(rooted(&self.prefix)),
            owner_rules: request.owner_rules.clone(),
            verify_only: request.verify_only,
            partial: request.partial,
            drives: request.drives,
        }
    }
}

fn ambiguous(message: String) -> Status {
    status::fault(Code::InvalidArgument, "STRIP_AMBIGUOUS", message)
}

fn owner_rule(rule: &OwnerRule) -> Result<(), String> {
    if !matches!(rule.kind(), OwnerKind::User | OwnerKind::Group) {
        return Err("must be about users or groups".to_owned());
    }
    for name in [&rule.from, &rule.to] {
        if name.is_empty() || name.len() > NAME_MOST || name.contains(|c: char| c.is_control()) {
            return Err(format!("must have names of 1 to {NAME_MOST} bytes"));
        }
        let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
        // The greatest means nobody in particular to the kernel.
        if is_number && name.parse::<u32>().is_ok_and(|id| id == u32::MAX) {
            return Err(format!("{name} is the number of nobody"));
        }
        if is_number && name.parse::<u32>().is_err() {
            return Err(format!("{name} is no number of a user or group"));
        }
    }
    if rule.to == "*" {
        return Err("must say whose things become".to_owned());
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_origin_is_known_however_it_is_written() {
        let at = |target: &str, prefix: &str, strip: &str| {
            let wanted = Wanted {
                paths: Vec::new(),
                patterns: Patterns::read(&[]).unwrap(),
                strip_components: 0,
                strip_prefix: None,
                prefix: prefix.into(),
                target: Some(target.into()),
                collision: Collision::Never,
            };
            wanted.is_at_origin(strip.as_bytes())
        };
        assert!(at("/", "", "") && at("/srv/a", "", "srv/a") && at("/srv", "a", "srv/a"));
        assert!(at("/", "srv", "srv"));
        assert!(!at("/x", "", "") && !at("/", "x", "") && !at("/", "", "srv"));
        assert!(!at("/srv/b", "", "srv/a"));
    }

    #[test]
    fn owners_are_names_or_numbers() {
        let rule = |from: &str, to: &str| {
            owner_rule(&OwnerRule {
                kind: OwnerKind::User.into(),
                from: from.into(),
                to: to.into(),
            })
        };
        for (from, to) in [("alice", "bob"), ("1000", "2000"), ("*", "0")] {
            rule(from, to).unwrap();
        }
        for (from, to) in [
            ("", "bob"),
            ("alice", ""),
            ("alice", "*"),
            ("4294967295", "1"),
            ("1", "4294967296"),
            ("a\nb", "1"),
        ] {
            assert!(rule(from, to).is_err(), "{from:?} {to:?}");
        }
        assert!(owner_rule(&OwnerRule::default()).is_err());
    }

    #[test]
    fn chosen_paths_are_kept_byte_for_byte() {
        for paths in [vec![&b"srv/a b"[..], b"srv/\xff\n"], vec![b""]] {
            let kept: Vec<u8> = paths
                .iter()
                .flat_map(|path| [*path, b"\0"].concat())
                .collect();
            assert_eq!(chosen_paths(&kept), paths);
        }
    }
}
