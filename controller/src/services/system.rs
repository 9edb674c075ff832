//! The installation as a whole.

use std::time::Duration;

use taf_proto::v1::system_service_server::SystemService;
use taf_proto::v1::{GetStatusRequest, GetStatusResponse};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::job::messages;
use super::{reuse, timestamp};
use crate::app::App;
use crate::store::jobs::{job_list, job_list_failed};
use crate::store::reuse as needed;
use crate::store::system::Counts;
use crate::store::trust::{Trust, trust_get};
use crate::store::{self, Client};

/// Most active jobs in the answer.
const ACTIVE_MOST: i64 = 100;
/// Most failed jobs in the answer.
const FAILED_MOST: i64 = 10;
/// Most volumes that are named as kept.
const KEPT_MOST: usize = 3;

/// `taf.v1.SystemService`.
#[derive(Debug, Clone)]
pub struct System(pub App);

/// What needs a person, with what to do about it.
fn warnings(counts: &Counts, trust: Option<&Trust>) -> Vec<String> {
    let mut warnings = Vec::new();
    let suspects = counts.suspect_volumes;
    if let Some((since, why)) = trust.and_then(|trust| trust.distrusted.as_ref()) {
        let since = since.strftime("%Y-%m-%d %H:%M UTC");
        warnings.push(format!(
            "the catalog is not trusted since {since}, because {why}: it may be older than the tapes. Nothing is written, nothing expires and nothing is removed until every volume has been inspected, {suspects} are left: taf volume inspect --all. Or answer for it: taf catalog trust"
        ));
    } else if suspects > 0 {
        warnings.push(format!(
            "{suspects} volumes are read only until they are inspected: taf volume inspect --all"
        ));
    }
    if counts.agents == 0 {
        warnings.push("no agent is enrolled: see taf agent enrol --help".to_owned());
    } else if counts.connected_agents < counts.agents {
        let missing = counts.agents - counts.connected_agents;
        warnings.push(format!(
            "{missing} of {} agents are not connected: see taf agent list",
            counts.agents
        ));
    }
    if counts.agents > 0 && counts.drives == 0 {
        warnings.push("no drive has reported: start a tape agent".to_owned());
    } else if counts.usable_drives < counts.drives {
        let missing = counts.drives - counts.usable_drives;
        warnings.push(format!(
            "{missing} of {} drives can't be used: see taf drive list",
            counts.drives
        ));
    }
    if counts.plans > 0 && counts.appendable_volumes == 0 {
        warnings.push("no volume can be appended to: label one with taf volume label".to_owned());
    }
    if counts.quarantined_volumes > 0 {
        warnings.push(format!(
            "{} volumes contradict the catalog and are not used: see taf volume list",
            counts.quarantined_volumes
        ));
    }
    warnings
}

/// Free volumes that are kept although their pools have no other one to write on, with what to do about it.
async fn kept(client: &Client, after: Duration) -> Result<Vec<String>, store::Error> {
    let rested = needed::volume_list_rested(client, None, after.as_secs_f64()).await?;
    let recordings: Vec<Uuid> = rested.iter().map(|one| one.recording).collect();
    if recordings.is_empty() {
        return Ok(Vec::new());
    }
    let held = needed::recordings_held(client, &recordings).await?;
    let said = rested.iter().filter_map(|one| {
        let kept = reuse::kept(&one.barcode, held.get(&one.recording)?)?;
        Some(format!(
            "no volume of its pool can be appended to, and volume {} is free but kept, since {}: {}",
            one.barcode, kept.what, kept.next
        ))
    });
    Ok(said.take(KEPT_MOST).collect())
}

#[tonic::async_trait]
impl SystemService for System {
    async fn get_status(
        &self,
        _request: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        let store = &self.0.store;
        let counts = store.system_counts().await?;
        let database = store.system_database().await?;
        let client = store.client().await?;
        let trust = trust_get(&client).await?;
        let (since, why) = trust.as_ref().and_then(|t| t.distrusted.clone()).unzip();
        let mut warnings = warnings(&counts, trust.as_ref());
        warnings.extend(kept(&client, self.0.config.reuse_after).await?);
        let active = job_list(&client, i64::MAX, true, ACTIVE_MOST).await?;
        let failed = job_list_failed(&client, FAILED_MOST).await?;
        Ok(Response::new(GetStatusResponse {
            installation_uuid: self.0.installation.to_string(),
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            database,
            active_jobs: messages(&client, active).await?,
            failed_jobs: messages(&client, failed).await?,
            agent_count: counts.agents as u32,
            connected_agent_count: counts.connected_agents as u32,
            drive_count: counts.drives as u32,
            usable_drive_count: counts.usable_drives as u32,
            appendable_volume_count: counts.appendable_volumes as u32,
            volume_count: counts.volumes as u32,
            version_count: counts.versions as u64,
            last_publish_time: counts.last_published_at.map(timestamp),
            warnings,
            suspect_volume_count: counts.suspect_volumes as u32,
            distrust_reason: why.unwrap_or_default(),
            distrust_time: since.map(timestamp),
        }))
    }
}
