//! Plans, and running one now.

use taf_core::catalog::Kind;
use taf_proto::v1::plan_service_server::PlanService;
use taf_proto::v1::{
    self, CreatePlanRequest, CreatePlanResponse, DeletePlanRequest, DeletePlanResponse,
    GetPlanRequest, GetPlanResponse, ListPlansRequest, ListPlansResponse, RunPlanRequest,
    RunPlanResponse,
};
use tonic::{Request, Response, Status};

use super::mutation::Mutation;
use super::paging::Page;
use super::status::{self, Violations};
use super::{PAGE_DEFAULT, PAGE_MOST, names, timestamp, version_type};
use crate::access::Caller;
use crate::app::App;
use crate::session::Registry;
use crate::store::jobs::{job_active_of_plan_on, job_create_backup_on};
use crate::store::plans::{NewPlan, Plan};
use crate::store::{self, Store};

/// zstd level if nobody says.
const DEFAULT_LEVEL: i32 = 3;
/// Most compressor threads.
const THREADS_MOST: i32 = 256;
/// Most streams.
const STREAMS_MOST: u32 = 8;

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
        streams: plan.streams as u32,
        create_time: Some(timestamp(plan.created_at)),
        etag: etag(plan),
        r#type: version_type::message(plan.kind).into(),
    }
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
        let source = bad
            .read("plan.source", names::source_id(&plan.source))
            .unwrap_or_default();
        let pool = bad
            .read("plan.pool", names::pool_id(&plan.pool))
            .unwrap_or_default();
        let level = if plan.compression_level == 0 {
            DEFAULT_LEVEL
        } else {
            plan.compression_level
        };
        if !(1..=19).contains(&level) {
            bad.add("plan.compression_level", "must be from 1 to 19, or 0 for 3");
        }
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
        if plan.streams > STREAMS_MOST {
            bad.add(
                "plan.streams",
                format!("must be from 1 to {STREAMS_MOST}, or 0 for 1"),
            );
        }
        bad.check()?;

        let mut client = self.app.store.client().await?;
        let tx = client.transaction().await.map_err(store::Error::from)?;
        if let Some(answer) = mutation.begin_on(&tx).await? {
            return Ok(answer);
        }
        let source = Store::source_lock_on(&tx, source)
            .await?
            .ok_or_else(|| status::not_found(&plan.source))?;
        let pool = Store::pool_get_on(&*tx, pool)
            .await?
            .ok_or_else(|| status::not_found(&plan.pool))?;
        let new = NewPlan {
            name: request.plan_id.clone(),
            source_id: source.id,
            pool_id: pool.id,
            compression_level: level,
            compression_threads: plan.compression_threads,
            kind,
            streams: plan.streams.max(1) as i32,
        };
        let name = names::plan(&new.name);
        if !Store::plan_create_on(&tx, &new).await? {
            return Err(status::already_exists(&name));
        }
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
        let mut client = self.app.store.client().await?;
        let tx = client.transaction().await.map_err(store::Error::from)?;
        if let Some(answer) = mutation.begin_on(&tx).await? {
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
        let line = Store::plan_line_on(&tx, &plan).await?;
        let asked = asked.unwrap_or(plan.kind);
        let job =
            job_create_backup_on(&tx, plan.id, line, source.agent_id, asked, mutation.actor())
                .await?;
        let answer = RunPlanResponse {
            job: names::job(job),
        };
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
        mutation.concluded(&self.app.store, outcome).await
    }
}
