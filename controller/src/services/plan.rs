//! Plans, and running one now.

use prost::Message as _;
use taf_core::catalog::Kind;
use taf_format::segment::Method;
use taf_proto::v1::plan_service_server::PlanService;
use taf_proto::v1::{
    self, CompressionMethod, CreatePlanRequest, CreatePlanResponse, DeletePlanRequest,
    DeletePlanResponse, GetPlanRequest, GetPlanResponse, ListPlansRequest, ListPlansResponse,
    RunPlanRequest, RunPlanResponse, UpdatePlanRequest, UpdatePlanResponse,
};
use tokio_postgres::Transaction;
use tonic::{Request, Response, Status};

use super::mutation::Mutation;
use super::paging::Page;
use super::status::{self, Violations};
use super::{
    PAGE_DEFAULT, PAGE_MOST, mask, names, removal, retention, synthesis, timestamp, version_type,
};
use crate::access::Caller;
use crate::app::App;
use crate::catalog;
use crate::session::Registry;
use crate::store::jobs::{job_active_of_plan_on, job_create_backup_on};
use crate::store::plans::{NewPlan, Plan};
use crate::store::removals::job_then_removes_on;
use crate::store::{self, Store};

/// Most compressor threads.
const THREADS_MOST: i32 = 256;
/// Percent of what a mirror's archives hold that should belong to it, if nobody says.
const MIRROR_LIVING: i32 = 50;
/// Most streams.
const STREAMS_MOST: u32 = 8;

/// What of a plan can be changed.
const CHANGEABLE: [&str; 8] = [
    "type",
    "pool",
    "streams",
    "compression_method",
    "compression_level",
    "compression_threads",
    "mirror_living_percent",
    "retention",
];
/// What of it can be changed while a run is under way: it goes by what it found when it began. Volumes and drives are sought all
/// along.
const CHANGEABLE_ALWAYS: [&str; 6] = [
    "type",
    "compression_method",
    "compression_level",
    "compression_threads",
    "mirror_living_percent",
    "retention",
];

/// `taf.v1.PlanService`.
#[derive(Clone)]
pub struct Plans {
    app: App,
    registry: Registry,
}

fn etag(plan: &Plan) -> String {
    format!("{}-{}", plan.id, plan.revision)
}

fn message(plan: &Plan) -> v1::Plan {
    v1::Plan {
        name: names::plan(&plan.name),
        source: names::source(&plan.source),
        pool: names::pool(&plan.pool),
        compression_level: plan.compression_level,
        compression_threads: plan.compression_threads,
        compression_method: CompressionMethod::from(plan.compression_method).into(),
        streams: plan.streams as u32,
        mirror_living_percent: plan.mirror_living_percent as u32,
        create_time: Some(timestamp(plan.created_at)),
        etag: etag(plan),
        r#type: version_type::message(plan.kind).into(),
        // What was stored is what was checked.
        retention: match plan.retention.as_slice() {
            [] => None,
            encoded => v1::Retention::decode(encoded).ok(),
        },
    }
}

/// What a plan of a request is to be, read once.
struct Asked<'a> {
    source: &'a str,
    pool: &'a str,
    compression_method: Method,
    compression_level: i32,
    kind: Kind,
}

impl<'a> Asked<'a> {
    /// What is wrong goes to `bad`.
    fn read(plan: &'a v1::Plan, bad: &mut Violations) -> Self {
        let source = bad
            .read("plan.source", names::source_id(&plan.source))
            .unwrap_or_default();
        let pool = bad
            .read("plan.pool", names::pool_id(&plan.pool))
            .unwrap_or_default();
        let method = bad.read(
            "plan.compression_method",
            Method::of_api(plan.compression_method),
        );
        // Of a method that is not known nobody knows the levels.
        let level = method.and_then(|method| {
            bad.read(
                "plan.compression_level",
                method.level(plan.compression_level),
            )
        });
        if !(0..=THREADS_MOST).contains(&plan.compression_threads) {
            bad.add(
                "plan.compression_threads",
                format!("must be from 0 to {THREADS_MOST}"),
            );
        }
        let kind = bad
            .read("plan.type", version_type::asked(plan.r#type))
            .flatten()
            .unwrap_or(Kind::Full);
        if kind == Kind::SyntheticFull {
            bad.add(
                "plan.type",
                "must not be a synthetic full: a plan that only copies what it has never sees a change; ask for one with `taf run PLAN --type synthetic-full`",
            );
        }
        if plan.mirror_living_percent > 100 {
            bad.add(
                "plan.mirror_living_percent",
                format!("must be from 1 to 100, or 0 for {MIRROR_LIVING}"),
            );
        }
        if plan.streams > STREAMS_MOST {
            bad.add(
                "plan.streams",
                format!("must be from 1 to {STREAMS_MOST}, or 0 for 1"),
            );
        }
        if let Some(retention) = &plan.retention {
            retention::check(retention, "plan.retention", bad);
        }
        Self {
            source,
            pool,
            compression_method: method.unwrap_or(Method::Zstd),
            compression_level: level.unwrap_or_default(),
            kind,
        }
    }

    /// With the rows of the source, which is held until the transaction ends, and of the pool.
    async fn found_on(
        &self,
        tx: &Transaction<'_>,
        id: &str,
        plan: &v1::Plan,
    ) -> Result<NewPlan, Status> {
        let source = Store::source_lock_on(tx, self.source)
            .await?
            .ok_or_else(|| status::not_found(&plan.source))?;
        let pool = Store::pool_get_on(tx, self.pool)
            .await?
            .ok_or_else(|| status::not_found(&plan.pool))?;
        Ok(NewPlan {
            name: id.to_owned(),
            source_id: source.id,
            pool_id: pool.id,
            compression_method: self.compression_method,
            compression_level: self.compression_level,
            compression_threads: plan.compression_threads,
            kind: self.kind,
            streams: plan.streams.max(1) as i32,
            mirror_living_percent: match plan.mirror_living_percent {
                0 => MIRROR_LIVING,
                percent => percent as i32,
            },
        })
    }
}

/// Its rules of retention as they are stored.
fn retained(plan: &v1::Plan) -> Vec<u8> {
    let rules = plan.retention.as_ref();
    rules.map(v1::Retention::encode_to_vec).unwrap_or_default()
}

fn running(name: &str, job: i64) -> Status {
    let job = names::job(job);
    status::fault_with(
        tonic::Code::FailedPrecondition,
        "PLAN_RUNNING",
        format!("{name} runs as {job}: wait for it or cancel it"),
        &[("job", &job)],
    )
}

impl Plans {
    /// The service.
    pub fn new(app: App, registry: Registry) -> Self {
        Self { app, registry }
    }

    async fn create(
        &self,
        mutation: &Mutation,
        request: &CreatePlanRequest,
    ) -> Result<CreatePlanResponse, Status> {
        let mut bad = Violations::new();
        if !names::is_id(&request.plan_id) {
            bad.add("plan_id", format!("must be {}", names::ID_RULE));
        }
        let plan = request.plan.clone().unwrap_or_default();
        let asked = Asked::read(&plan, &mut bad);
        bad.check()?;

        let mut client = self.app.store.client().await?;
        let tx = client.transaction().await.map_err(store::Error::from)?;
        if let Some(answer) = mutation.begin_on(&tx).await? {
            return Ok(answer);
        }
        let new = asked.found_on(&tx, &request.plan_id, &plan).await?;
        let name = names::plan(&new.name);
        if !Store::plan_create_on(&tx, &new).await? {
            return Err(status::already_exists(&name));
        }
        Store::plan_retain_on(&tx, &new.name, &retained(&plan)).await?;
        let made = Store::plan_get_on(&*tx, &new.name)
            .await?
            .ok_or_else(|| status::not_found(&name))?;
        let answer = CreatePlanResponse {
            plan: Some(message(&made)),
        };
        mutation.finish_on(&tx, &answer).await?;
        tx.commit().await.map_err(store::Error::from)?;
        Ok(answer)
    }

    async fn update(
        &self,
        mutation: &Mutation,
        request: &UpdatePlanRequest,
    ) -> Result<UpdatePlanResponse, Status> {
        let wanted = request.plan.clone().unwrap_or_default();
        let mut bad = Violations::new();
        let id = bad
            .read("plan.name", names::plan_id(&wanted.name))
            .unwrap_or_default();
        let mask = mask::read(request.update_mask.as_ref(), &CHANGEABLE, &mut bad);
        bad.check()?;
        let mut client = self.app.store.client().await?;
        let tx = client.transaction().await.map_err(store::Error::from)?;
        if let Some(answer) = mutation.begin_on(&tx).await? {
            return Ok(answer);
        }
        // Held until the end, so that no run begins meanwhile.
        let known = Store::plan_lock_on(&tx, id)
            .await?
            .ok_or_else(|| status::not_found(&wanted.name))?;
        if !wanted.etag.is_empty() && wanted.etag != etag(&known) {
            return Err(status::etag_mismatch(&wanted.name));
        }
        let waits = |path: &String| !CHANGEABLE_ALWAYS.contains(&path.as_str());
        if mask.iter().any(waits)
            && let Some(job) = job_active_of_plan_on(&tx, known.id).await?
        {
            return Err(running(&wanted.name, job));
        }
        let mut changed = mask::merge("Plan", &message(&known), &wanted, &mask)
            .map_err(|error| status::internal("a plan can't be changed", &error))?;
        let names = |field: &str| mask.iter().any(|path| path == field);
        if names("compression_method") && !names("compression_level") {
            // A level says nothing of another method.
            changed.compression_level = 0;
        }
        let mut bad = Violations::new();
        let asked = Asked::read(&changed, &mut bad);
        bad.check()?;
        let new = asked.found_on(&tx, id, &changed).await?;
        if !Store::plan_update_on(&tx, known.id, known.revision, &new).await? {
            return Err(status::etag_mismatch(&wanted.name));
        }
        Store::plan_retain_on(&tx, id, &retained(&changed)).await?;
        let now = Store::plan_get_on(&*tx, id)
            .await?
            .ok_or_else(|| status::not_found(&wanted.name))?;
        let answer = UpdatePlanResponse {
            plan: Some(message(&now)),
        };
        mutation.finish_on(&tx, &answer).await?;
        tx.commit().await.map_err(store::Error::from)?;
        Ok(answer)
    }

    async fn delete(
        &self,
        mutation: &Mutation,
        request: &DeletePlanRequest,
    ) -> Result<DeletePlanResponse, Status> {
        let id = names::plan_id(&request.name).map_err(|e| status::invalid("name", e))?;
        let mut client = self.app.store.client().await?;
        let tx = client.transaction().await.map_err(store::Error::from)?;
        if let Some(answer) = mutation.begin_on(&tx).await? {
            return Ok(answer);
        }
        let plan = Store::plan_lock_on(&tx, id)
            .await?
            .ok_or_else(|| status::not_found(&request.name))?;
        if !request.etag.is_empty() && request.etag != etag(&plan) {
            return Err(status::etag_mismatch(&request.name));
        }
        if let Some(job) = job_active_of_plan_on(&tx, plan.id).await? {
            return Err(running(&request.name, job));
        }
        if !Store::plan_delete_on(&tx, plan.id, plan.revision).await? {
            return Err(status::etag_mismatch(&request.name));
        }
        mutation.finish_on(&tx, &DeletePlanResponse {}).await?;
        tx.commit().await.map_err(store::Error::from)?;
        Ok(DeletePlanResponse {})
    }

    async fn run(
        &self,
        mutation: &Mutation,
        request: &RunPlanRequest,
    ) -> Result<RunPlanResponse, Status> {
        let id = names::plan_id(&request.name).map_err(|e| status::invalid("name", e))?;
        let asked = version_type::asked(request.r#type).map_err(|e| status::invalid("type", e))?;
        removal::check_copies(request.copies).map_err(|e| status::invalid("copies", e))?;
        let mut client = self.app.store.client().await?;
        if !request.validate_only && asked == Some(Kind::SyntheticFull) {
            // Counting takes a while: a repeated request does not do it again.
            let tx = client.transaction().await.map_err(store::Error::from)?;
            if let Some(answer) = mutation.begin_on(&tx).await? {
                return Ok(answer);
            }
        }
        let prepared = match asked {
            Some(Kind::SyntheticFull) => {
                let plan = self.app.store.plan_get(id).await?;
                let plan = plan.ok_or_else(|| status::not_found(&request.name))?;
                Some(synthesis::prepare(&self.app.store, &plan).await?)
            }
            _ => None,
        };
        let tx = client.transaction().await.map_err(store::Error::from)?;
        if !request.validate_only
            && let Some(answer) = mutation.begin_on(&tx).await?
        {
            return Ok(answer);
        }
        // Held until the end: of two runs at a time one finds the other's job.
        let plan = Store::plan_lock_on(&tx, id)
            .await?
            .ok_or_else(|| status::not_found(&request.name))?;
        if let Some(job) = job_active_of_plan_on(&tx, plan.id).await? {
            return Err(running(&request.name, job));
        }
        let source = Store::source_lock_on(&tx, &plan.source)
            .await?
            .ok_or_else(|| status::not_found(&names::source(&plan.source)))?;
        let asked = asked.unwrap_or(plan.kind);
        let line = Store::plan_line_on(&tx, &plan, asked == Kind::Archive).await?;
        let opening = catalog::foresee(&tx, line, asked).await?;
        let mut answer = RunPlanResponse {
            version_type: version_type::message(opening.kind).into(),
            promotion_reason: opening
                .promotion
                .map(|why| why.to_string())
                .unwrap_or_default(),
            ..RunPlanResponse::default()
        };
        if let Some(prepared) = &prepared {
            prepared.check_on(&tx, &plan).await?;
            prepared.tell(&mut answer);
        }
        if request.remove_sources && asked != Kind::Archive {
            return Err(status::invalid(
                "remove_sources",
                "must not be set unless an archive is made: only what is archived and verified is removed",
            ));
        }
        if request.validate_only {
            return Ok(answer);
        }
        let job =
            job_create_backup_on(&tx, plan.id, line, source.agent_id, asked, mutation.actor())
                .await?;
        if let Some(prepared) = &prepared {
            prepared
                .begin_on(&tx, job, source.agent_id, mutation.actor())
                .await?;
        }
        if request.remove_sources {
            let removal = removal::following(request.copies, request.remove_empty_directories);
            job_then_removes_on(&tx, job, &removal.encode_to_vec()).await?;
        }
        answer.job = names::job(job);
        mutation.finish_on(&tx, &answer).await?;
        tx.commit().await.map_err(store::Error::from)?;
        self.registry.wake();
        Ok(answer)
    }
}

#[tonic::async_trait]
impl PlanService for Plans {
    async fn create_plan(
        &self,
        request: Request<CreatePlanRequest>,
    ) -> Result<Response<CreatePlanResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let request = request.into_inner();
        let mutation = Mutation::new(
            &caller,
            "PlanService.CreatePlan",
            names::plan(&request.plan_id),
            &request.request_id,
            &request,
        )?;
        let outcome = self.create(&mutation, &request).await;
        mutation.concluded(&self.app.store, outcome).await
    }

    async fn get_plan(
        &self,
        request: Request<GetPlanRequest>,
    ) -> Result<Response<GetPlanResponse>, Status> {
        let name = request.into_inner().name;
        let id = names::plan_id(&name).map_err(|e| status::invalid("name", e))?;
        let plan = self
            .app
            .store
            .plan_get(id)
            .await?
            .ok_or_else(|| status::not_found(&name))?;
        Ok(Response::new(GetPlanResponse {
            plan: Some(message(&plan)),
        }))
    }

    async fn list_plans(
        &self,
        request: Request<ListPlansRequest>,
    ) -> Result<Response<ListPlansResponse>, Status> {
        let request = request.into_inner();
        let page = Page::read(
            "plans",
            request.page_size,
            &request.page_token,
            PAGE_DEFAULT,
            PAGE_MOST,
        )?;
        let mut rows = self
            .app
            .store
            .plan_list(page.after_text()?, page.limit())
            .await?;
        let next_page_token = page.cut(&mut rows, |row| row.name.clone());
        Ok(Response::new(ListPlansResponse {
            plans: rows.iter().map(message).collect(),
            next_page_token,
        }))
    }

    async fn update_plan(
        &self,
        request: Request<UpdatePlanRequest>,
    ) -> Result<Response<UpdatePlanResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let request = request.into_inner();
        let name = request.plan.as_ref().map(|plan| plan.name.clone());
        let mutation = Mutation::new(
            &caller,
            "PlanService.UpdatePlan",
            name.unwrap_or_default(),
            &request.request_id,
            &request,
        )?;
        let outcome = self.update(&mutation, &request).await;
        mutation.concluded(&self.app.store, outcome).await
    }

    async fn delete_plan(
        &self,
        request: Request<DeletePlanRequest>,
    ) -> Result<Response<DeletePlanResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let request = request.into_inner();
        let mutation = Mutation::new(
            &caller,
            "PlanService.DeletePlan",
            request.name.as_str(),
            &request.request_id,
            &request,
        )?;
        let outcome = self.delete(&mutation, &request).await;
        mutation.concluded(&self.app.store, outcome).await
    }

    async fn run_plan(
        &self,
        request: Request<RunPlanRequest>,
    ) -> Result<Response<RunPlanResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let request = request.into_inner();
        let mutation = Mutation::new(
            &caller,
            "PlanService.RunPlan",
            request.name.as_str(),
            &request.request_id,
            &request,
        )?;
        let outcome = self.run(&mutation, &request).await;
        if request.validate_only {
            return outcome.map(Response::new);
        }
        mutation.concluded(&self.app.store, outcome).await
    }
}
