//! Sources: which paths of which host. What may be read at all is the agent's own allow-list, checked there.

use bytes::Bytes;
use taf_proto::agent::Detection;
use taf_proto::path;
use taf_proto::v1::source_service_server::SourceService;
use taf_proto::v1::{
    self, CreateSourceRequest, CreateSourceResponse, DeleteSourceRequest, DeleteSourceResponse,
    GetSourceRequest, GetSourceResponse, ListSourcesRequest, ListSourcesResponse,
    UpdateSourceRequest, UpdateSourceResponse,
};
use tokio_postgres::Transaction;
use tonic::{Request, Response, Status};

use super::mutation::Mutation;
use super::paging::Page;
use super::selection::{age, read_selection};
use super::status::{self, Violations};
use super::{PAGE_DEFAULT, PAGE_MOST, names, timestamp};
use crate::access::Caller;
use crate::app::App;
use crate::store::sources::{NewSource, Source};
use crate::store::{self, Store};

/// `taf.v1.SourceService`.
#[derive(Debug, Clone)]
pub struct Sources(pub App);

fn etag(source: &Source) -> String {
    format!("{}-{}", source.id, source.revision)
}

fn message(source: &Source) -> v1::Source {
    let shown = |paths: &[Bytes]| paths.iter().cloned().map(path::from_raw).collect();
    v1::Source {
        name: names::source(&source.name),
        agent: names::agent(&source.agent),
        paths: shown(&source.selection.paths),
        excluded_paths: shown(&source.selection.excluded_paths),
        one_file_system: source.one_file_system,
        create_time: Some(timestamp(source.created_at)),
        etag: etag(source),
        rules: source.selection.rules.clone(),
        marker_files: source.selection.marker_files.clone(),
        exclude_caches: source.selection.exclude_caches,
        max_file_size: source.selection.max_file_size,
        min_file_size: source.selection.min_file_size,
        max_age: age(source.selection.max_age_seconds),
        min_age: age(source.selection.min_age_seconds),
        path_lists: shown(&source.selection.path_lists),
        ignore_ctime: source.detection.ignore_ctime,
        ignore_inode: source.detection.ignore_inode,
        always_compare_content: source.detection.always_compare_content,
    }
}

/// How changes are told, as it is asked for.
fn detection(source: &v1::Source) -> Detection {
    Detection {
        ignore_ctime: source.ignore_ctime,
        ignore_inode: source.ignore_inode,
        always_compare_content: source.always_compare_content,
    }
}

/// The source to change, held until the transaction ends; it must be as the caller saw it, if an etag says so.
async fn held_on(tx: &Transaction<'_>, id: &str, name: &str, seen: &str) -> Result<Source, Status> {
    let source = Store::source_lock_on(tx, id)
        .await?
        .ok_or_else(|| status::not_found(name))?;
    if seen.is_empty() || seen == etag(&source) {
        Ok(source)
    } else {
        Err(status::etag_mismatch(name))
    }
}

impl Sources {
    async fn create(
        &self,
        mutation: &Mutation,
        request: CreateSourceRequest,
    ) -> Result<CreateSourceResponse, Status> {
        let mut bad = Violations::new();
        if !names::is_id(&request.source_id) {
            bad.add("source_id", format!("must be {}", names::ID_RULE));
        }
        let source = request.source.unwrap_or_default();
        let agent = bad.read("source.agent", names::agent_id(&source.agent));
        let selection = read_selection(&source, &mut bad);
        bad.check()?;
        let agent = agent.unwrap_or_default();

        let mut client = self.0.store.client().await?;
        let tx = client.transaction().await.map_err(store::Error::from)?;
        if let Some(answer) = mutation.begin_on(&tx).await? {
            return Ok(answer);
        }
        let Some(agent) = Store::agent_get_on(&*tx, agent).await? else {
            return Err(status::not_found(&names::agent(agent)));
        };
        if agent.role != taf_peer::identity::Role::SourceAgent {
            return Err(status::precondition(
                "AGENT_NOT_A_SOURCE",
                format!(
                    "{} is a tape agent: name the source agent of the host",
                    names::agent(&agent.name)
                ),
            ));
        }
        let new = NewSource {
            name: request.source_id,
            agent_id: agent.id,
            selection,
            one_file_system: source.one_file_system,
            detection: detection(&source),
        };
        let name = names::source(&new.name);
        if !Store::source_create_on(&tx, &new).await? {
            return Err(status::already_exists(&name));
        }
        let made = Store::source_get_on(&*tx, &new.name)
            .await?
            .ok_or_else(|| status::not_found(&name))?;
        let answer = CreateSourceResponse {
            source: Some(message(&made)),
        };
        mutation.finish_on(&tx, &answer).await?;
        tx.commit().await.map_err(store::Error::from)?;
        Ok(answer)
    }

    async fn update(
        &self,
        mutation: &Mutation,
        wanted: &v1::Source,
    ) -> Result<UpdateSourceResponse, Status> {
        let mut bad = Violations::new();
        let id = bad.read("source.name", names::source_id(&wanted.name));
        let selection = read_selection(wanted, &mut bad);
        bad.check()?;
        let id = id.unwrap_or_default();

        let mut client = self.0.store.client().await?;
        let tx = client.transaction().await.map_err(store::Error::from)?;
        if let Some(answer) = mutation.begin_on(&tx).await? {
            return Ok(answer);
        }
        let source = held_on(&tx, id, &wanted.name, &wanted.etag).await?;
        if !wanted.agent.is_empty() && wanted.agent != names::agent(&source.agent) {
            return Err(status::invalid(
                "source.agent",
                "can't be changed: make a source of its own for another host",
            ));
        }
        let new = NewSource {
            name: source.name.clone(),
            agent_id: source.agent_id,
            selection,
            one_file_system: wanted.one_file_system,
            detection: detection(wanted),
        };
        if !Store::source_update_on(&tx, source.id, source.revision, &new).await? {
            return Err(status::etag_mismatch(&wanted.name));
        }
        let now = Store::source_get_on(&*tx, id)
            .await?
            .ok_or_else(|| status::not_found(&wanted.name))?;
        let answer = UpdateSourceResponse {
            source: Some(message(&now)),
        };
        mutation.finish_on(&tx, &answer).await?;
        tx.commit().await.map_err(store::Error::from)?;
        Ok(answer)
    }

    async fn delete(
        &self,
        mutation: &Mutation,
        request: &DeleteSourceRequest,
    ) -> Result<DeleteSourceResponse, Status> {
        let id = names::source_id(&request.name).map_err(|e| status::invalid("name", e))?;
        let mut client = self.0.store.client().await?;
        let tx = client.transaction().await.map_err(store::Error::from)?;
        if let Some(answer) = mutation.begin_on(&tx).await? {
            return Ok(answer);
        }
        let source = held_on(&tx, id, &request.name, &request.etag).await?;
        if Store::source_in_use_on(&tx, source.id).await? {
            return Err(status::precondition(
                "SOURCE_IN_USE",
                format!("a plan names {}: delete the plan first", request.name),
            ));
        }
        if !Store::source_delete_on(&tx, source.id, source.revision).await? {
            return Err(status::etag_mismatch(&request.name));
        }
        mutation.finish_on(&tx, &DeleteSourceResponse {}).await?;
        tx.commit().await.map_err(store::Error::from)?;
        Ok(DeleteSourceResponse {})
    }
}

#[tonic::async_trait]
impl SourceService for Sources {
    async fn create_source(
        &self,
        request: Request<CreateSourceRequest>,
    ) -> Result<Response<CreateSourceResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let request = request.into_inner();
        let mutation = Mutation::new(
            &caller,
            "SourceService.CreateSource",
            names::source(&request.source_id),
            &request.request_id,
            &request,
        )?;
        let outcome = self.create(&mutation, request).await;
        mutation.concluded(&self.0.store, outcome).await
    }

    async fn get_source(
        &self,
        request: Request<GetSourceRequest>,
    ) -> Result<Response<GetSourceResponse>, Status> {
        let name = request.into_inner().name;
        let id = names::source_id(&name).map_err(|e| status::invalid("name", e))?;
        let source = self
            .0
            .store
            .source_get(id)
            .await?
            .ok_or_else(|| status::not_found(&name))?;
        Ok(Response::new(GetSourceResponse {
            source: Some(message(&source)),
        }))
    }

    async fn list_sources(
        &self,
        request: Request<ListSourcesRequest>,
    ) -> Result<Response<ListSourcesResponse>, Status> {
        let request = request.into_inner();
        let page = Page::read(
            "sources",
            request.page_size,
            &request.page_token,
            PAGE_DEFAULT,
            PAGE_MOST,
        )?;
        let mut rows = self
            .0
            .store
            .source_list(page.after_text()?, page.limit())
            .await?;
        let next_page_token = page.cut(&mut rows, |row| row.name.clone());
        Ok(Response::new(ListSourcesResponse {
            sources: rows.iter().map(message).collect(),
            next_page_token,
        }))
    }

    async fn update_source(
        &self,
        request: Request<UpdateSourceRequest>,
    ) -> Result<Response<UpdateSourceResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let request = request.into_inner();
        let wanted = request.source.clone().unwrap_or_default();
        let mutation = Mutation::new(
            &caller,
            "SourceService.UpdateSource",
            wanted.name.as_str(),
            &request.request_id,
            &request,
        )?;
        let outcome = self.update(&mutation, &wanted).await;
        mutation.concluded(&self.0.store, outcome).await
    }

    async fn delete_source(
        &self,
        request: Request<DeleteSourceRequest>,
    ) -> Result<Response<DeleteSourceResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let request = request.into_inner();
        let mutation = Mutation::new(
            &caller,
            "SourceService.DeleteSource",
            request.name.as_str(),
            &request.request_id,
            &request,
        )?;
        let outcome = self.delete(&mutation, &request).await;
        mutation.concluded(&self.0.store, outcome).await
    }
}
