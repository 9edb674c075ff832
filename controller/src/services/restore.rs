//! Bringing a version back: what a restore asks for is checked and counted, and becomes a job.

use prost::Message as _;
use taf_peer::identity::Role;
use taf_proto::path;
use taf_proto::v1::{Collision, RestoreVersionRequest, RestoreVersionResponse};
use tonic::Status;

use super::mutation::Mutation;
use super::names;
use super::status::{self, Violations};
use super::version::{Versions, no_parts, readable, relative, volumes};
use crate::catalog::{Selection, View, extra, recall};
use crate::store::jobs::{self, NewRestore};
use crate::store::removals::{self, NewExtra};
use crate::store::versions::Version;
use crate::store::{self, expiry};

impl Versions {
    pub(super) async fn restore(
        &self,
        mutation: Option<&Mutation>,
        request: &RestoreVersionRequest,
    ) -> Result<RestoreVersionResponse, Status> {
        let wanted = Wanted::read(request)?;
        let (version, parts) = self.version("version", &request.version).await?;
        readable(&request.version, &version)?;
        let (agent_id, agent) = self.agent(&version, &request.agent).await?;
        if let Some(mutation) = mutation {
            // Counting takes a while: a repeated request does not do it again.
            let mut client = self.app.store.client().await?;
            let tx = client.transaction().await.map_err(store::Error::from)?;
            if let Some(answer) = mutation.begin_on(&tx).await? {
                return Ok(answer);
            }
        }
        let view = View::of(&self.app.store, &version).await?;
        let selection = Selection::resolve(&view, &wanted.paths).await?;
        let (count, needed) = recall::count(&view, &selection, &parts).await?;
        if request.delete_extra {
            self.may_delete_extra(&view, &selection, &version, &wanted)
                .await?;
        }
        let mut answer = RestoreVersionResponse {
            job: String::new(),
            entry_count: count.entries,
            byte_count: count.bytes,
            volumes: volumes(needed.parts()),
        };
        let kept = RestoreVersionRequest {
            version: request.version.clone(),
            paths: wanted
                .paths
                .iter()
                .map(|relative| path::from_raw([b"/", relative.as_slice()].concat()))
                .collect(),
            agent: names::agent(&agent),
            target: Some(path::from_raw(wanted.target)),
            collision: wanted.collision.into(),
            dry_run: request.dry_run,
            request_id: String::new(),
            delete_extra: request.delete_extra,
        };
        let Some(mutation) = mutation else {
            return Ok(answer);
        };
        if request.dry_run {
            return self
                .list_extra(mutation, &version, agent_id, &kept, answer)
                .await;
        }
        // Of what has no bytes on tape the first volume will do.
        let first = needed.parts().next().or(parts.first());
        let Some(volume) = first.map(|part| part.volume_id) else {
            return Err(no_parts(&request.version));
        };
        let mut client = self.app.store.client().await?;
        let tx = client.transaction().await.map_err(store::Error::from)?;
        if let Some(answer) = mutation.begin_on(&tx).await? {
            return Ok(answer);
        }
        // From here on it can't expire before it is seen that it is read.
        if !expiry::version_use_on(&tx, version.line_id, version.version).await? {
            return Err(status::not_found(&request.version));
        }
        let new = NewRestore {
            line_id: version.line_id,
            version: version.version,
            agent_id,
            volume_id: volume,
            request: &kept.encode_to_vec(),
            entry_count: store::bigint(count.entries)?,
            byte_total: store::bigint(count.bytes)?,
        };
        answer.job = names::job(jobs::job_create_restore_on(&tx, &new, mutation.actor()).await?);
        mutation.finish_on(&tx, &answer).await?;
        tx.commit().await.map_err(store::Error::from)?;
        self.registry.wake();
        Ok(answer)
    }

    /// Refuses to remove what is extra where that can't be told.
    async fn may_delete_extra(
        &self,
        view: &View,
        selection: &Selection,
        version: &Version,
        wanted: &Wanted,
    ) -> Result<(), Status> {
        let taken = extra::Taken::of(view).await?;
        if let Some(directory) = extra::unknown(view, selection, &taken).await? {
            return Err(status::precondition(
                "LISTING_UNKNOWN",
                format!(
                    "the version does not know what was in {}, so nothing there can be told to be extra: choose another version, or paths without it",
                    path::display(&directory)
                ),
            ));
        }
        // There is more there than the version was asked to hold: what rules left out, what could not be read, what is mounted.
        if wanted.target == b"/" {
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
        version: &Version,
        agent_id: i64,
        request: &RestoreVersionRequest,
        mut answer: RestoreVersionResponse,
    ) -> Result<RestoreVersionResponse, Status> {
        let mut client = self.app.store.client().await?;
        let tx = client.transaction().await.map_err(store::Error::from)?;
        if let Some(answer) = mutation.begin_on(&tx).await? {
            return Ok(answer);
        }
        // From here on it can't expire before it is seen that it is read.
        if !expiry::version_use_on(&tx, version.line_id, version.version).await? {
            return Err(status::not_found(&request.version));
        }
        let new = NewExtra {
            line_id: version.line_id,
            version: version.version,
            agent_id,
            request: &request.encode_to_vec(),
            cause: None,
        };
        let job = removals::job_create_extra_on(&tx, &new, mutation.actor()).await?;
        answer.job = names::job(job);
        mutation.finish_on(&tx, &answer).await?;
        tx.commit().await.map_err(store::Error::from)?;
        self.registry.wake();
        Ok(answer)
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

/// What a restore asks for, read once.
struct Wanted {
    /// Without slash at either end; empty is the root.
    paths: Vec<Vec<u8>>,
    target: Vec<u8>,
    collision: Collision,
}

impl Wanted {
    fn read(request: &RestoreVersionRequest) -> Result<Self, Status> {
        let mut bad = Violations::new();
        let mut paths = Vec::with_capacity(request.paths.len());
        for (at, path) in request.paths.iter().enumerate() {
            paths.extend(bad.read(&format!("paths[{at}]"), relative(Some(path))));
        }
        let target = bad
            .read("target", relative(request.target.as_ref()))
            .unwrap_or_default();
        let collision = Collision::try_from(request.collision).unwrap_or_else(|_| {
            bad.add("collision", "must be a value of Collision");
            Collision::Unspecified
        });
        bad.check()?;
        Ok(Self {
            paths,
            target: [b"/", target.as_slice()].concat(),
            collision,
        })
    }
}
