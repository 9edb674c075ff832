//! Sources: which paths of which host. What may be read at all is the agent's own allow-list, checked there.

use bytes::Bytes;
use taf_proto::agent::FetchSelectionResponse;
use taf_proto::path;
use taf_proto::selection::Rules;
use taf_proto::v1::source_service_server::SourceService;
use taf_proto::v1::{
    self, CreateSourceRequest, CreateSourceResponse, DeleteSourceRequest, DeleteSourceResponse,
    GetSourceRequest, GetSourceResponse, ListSourcesRequest, ListSourcesResponse,
    UpdateSourceRequest, UpdateSourceResponse,
};
use tonic::{Request, Response, Status};

use super::mutation::Mutation;
use super::paging::Page;
use super::status::{self, Violations};
use super::{PAGE_DEFAULT, PAGE_MOST, names, timestamp};
use crate::access::Caller;
use crate::app::App;
use crate::store::sources::{NewSource, Source};
use crate::store::{self, Store};

/// Most paths, and most excluded paths, of a source.
const PATHS_MOST: usize = 1000;
/// Most names of marker files.
const MARKERS_MOST: usize = 100;

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
    }
}

/// An absolute path in its one spelling: no doubled and no trailing '/', but for the root itself.
pub fn absolute(raw: &[u8]) -> Result<Bytes, &'static str> {
    if raw.first() != Some(&b'/') {
        return Err("must be absolute: begin with '/'");
    }
    if raw.contains(&0) {
        return Err("must not contain a NUL byte");
    }
    let mut plain = Vec::with_capacity(raw.len());
    for name in raw
        .split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty())
    {
        match name {
            b"." | b".." => return Err("must not contain '.' or '..' as a component"),
            _ if name.len() > 255 => {
                return Err("has a component of over 255 bytes, which no file system holds");
            }
            _ => {}
        }
        plain.push(b'/');
        plain.extend_from_slice(name);
    }
    if plain.is_empty() {
        plain.push(b'/');
    }
    Ok(plain.into())
}

/// Whether `path` is `above` or lies below it. Both in the form that [`absolute`] gives.
fn is_below(path: &[u8], above: &[u8]) -> bool {
    let stem = above.strip_suffix(b"/").unwrap_or(above);
    path.strip_prefix(stem)
        .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// Every path in its one spelling, sorted, each once.
fn read_paths(field: &str, paths: &[v1::Path], bad: &mut Violations) -> Vec<Bytes> {
    if paths.len() > PATHS_MOST {
        bad.add(field, format!("must be at most {PATHS_MOST}"));
        return Vec::new();
    }
    let mut read = Vec::with_capacity(paths.len());
    for (i, given) in paths.iter().enumerate() {
        let field = format!("{field}[{i}]");
        let Some(raw) = bad.read(&field, path::to_raw(given)) else {
            continue;
        };
        if let Some(plain) = bad.read(&field, absolute(&raw)) {
            read.push(plain);
        }
    }
    read.sort();
    read.dedup();
    read
}

/// Paths and excluded paths, with every bad one noted.
fn read_selection(source: &v1::Source, bad: &mut Violations) -> FetchSelectionResponse {
    let mut paths: Vec<Bytes> = Vec::new();
    for path in read_paths("source.paths", &source.paths, bad) {
        // Sorted: whatever contains a path has come before it.
        let above = paths.iter().find(|above| is_below(&path, above));
        match above {
            None => paths.push(path),
            // On another file system it would not be reached from above, and go missing in silence.
            Some(above) if source.one_file_system => bad.add(
                "source.paths",
                format!(
                    "has {} within {}: with one_file_system, make a source of its own for it",
                    path::display(&path),
                    path::display(above)
                ),
            ),
            Some(_) => {}
        }
    }
    let path_lists = read_paths("source.path_lists", &source.path_lists, bad);
    if source.paths.is_empty() && source.path_lists.is_empty() {
        bad.add("source.paths", "must name at least one path");
    }
    let excluded = read_paths("source.excluded_paths", &source.excluded_paths, bad);
    for path in &paths {
        if let Some(whole) = excluded.iter().find(|above| is_below(path, above)) {
            let (path, whole) = (path::display(path), path::display(whole));
            bad.add(
                "source.excluded_paths",
                format!("has {whole}, which leaves nothing of {path}"),
            );
        }
    }
    if let Err(error) = Rules::new(&source.rules) {
        let field = match source.rules.get(error.rule) {
            Some(_) => format!("source.rules[{}]", error.rule),
            None => "source.rules".into(),
        };
        bad.add(field, error.why);
    }
    read_markers(&source.marker_files, bad);
    let max_age_seconds = read_age("source.max_age", source.max_age.as_ref(), bad);
    let min_age_seconds = read_age("source.min_age", source.min_age.as_ref(), bad);
    if source.max_file_size != 0 && source.max_file_size < source.min_file_size {
        bad.add("source.max_file_size", "is less than min_file_size");
    }
    if max_age_seconds != 0 && max_age_seconds < min_age_seconds {
        bad.add("source.max_age", "is less than min_age");
    }
    FetchSelectionResponse {
        paths,
        excluded_paths: excluded,
        rules: source.rules.clone(),
        marker_files: source.marker_files.clone(),
        exclude_caches: source.exclude_caches,
        max_file_size: source.max_file_size,
        min_file_size: source.min_file_size,
        max_age_seconds,
        min_age_seconds,
        path_lists,
    }
}

fn read_markers(names: &[String], bad: &mut Violations) {
    if names.len() > MARKERS_MOST {
        bad.add(
            "source.marker_files",
            format!("must be at most {MARKERS_MOST}"),
        );
    }
    for (i, name) in names.iter().enumerate() {
        if name.is_empty()
            || name.len() > 255
            || name.contains(['/', '\0'])
            || name == "."
            || name == ".."
        {
            bad.add(
                format!("source.marker_files[{i}]"),
                "must be the name of a file, without '/'",
            );
        }
    }
}

/// Whole seconds; 0 without a limit.
fn read_age(field: &str, age: Option<&prost_types::Duration>, bad: &mut Violations) -> u64 {
    let Some(age) = age else { return 0 };
    let seconds = u64::try_from(age.seconds).ok().filter(|_| age.nanos == 0);
    match seconds {
        Some(seconds) if seconds > 0 => seconds,
        _ => {
            bad.add(field, "must be whole seconds, at least 1");
            0
        }
    }
}

fn age(seconds: u64) -> Option<prost_types::Duration> {
    (seconds > 0).then(|| prost_types::Duration {
        seconds: seconds as i64,
        nanos: 0,
    })
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
        let source = Store::source_lock_on(&tx, id)
            .await?
            .ok_or_else(|| status::not_found(&wanted.name))?;
        if !wanted.etag.is_empty() && wanted.etag != etag(&source) {
            return Err(status::etag_mismatch(&wanted.name));
        }
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
        let source = Store::source_lock_on(&tx, id)
            .await?
            .ok_or_else(|| status::not_found(&request.name))?;
        if !request.etag.is_empty() && request.etag != etag(&source) {
            return Err(status::etag_mismatch(&request.name));
        }
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

#[cfg(test)]
#[allow(clippy::unwrap_used, missing_docs)]
mod tests {
    use super::*;

    fn source(paths: &[&str], excluded: &[&str], one_file_system: bool) -> v1::Source {
        let message = |display: &&str| v1::Path {
            display: (*display).into(),
            ..Default::default()
        };
        v1::Source {
            paths: paths.iter().map(message).collect(),
            excluded_paths: excluded.iter().map(message).collect(),
            one_file_system,
            ..Default::default()
        }
    }

    fn selected(source: &v1::Source) -> Result<Vec<String>, String> {
        let mut bad = Violations::new();
        let selection = read_selection(source, &mut bad);
        bad.check().map_err(|status| status.message().to_owned())?;
        Ok(selection
            .paths
            .iter()
            .map(|path| path::display(path))
            .collect())
    }

    #[test]
    fn paths_are_kept_in_one_spelling_and_once() {
        let given = source(
            &["/srv//a/", "/srv/a/b", "/srv/ab", "/srv/a", r"/x\xff"],
            &[],
            false,
        );
        assert_eq!(selected(&given).unwrap(), ["/srv/a", "/srv/ab", r"/x\xff"]);
        assert_eq!(
            selected(&source(&["/srv", "/"], &["/proc"], false)).unwrap(),
            ["/"]
        );
        assert_eq!(selected(&source(&["/"], &[], true)).unwrap(), ["/"]);
    }

    #[test]
    fn every_bad_path_is_named() {
        let given = source(&["srv", "/a/../b", "/ok", r"/a\q"], &[r"/x\x00"], false);
        let said = selected(&given).unwrap_err();
        for field in [
            "source.paths[0]",
            "source.paths[1]",
            "source.paths[3]",
            "source.excluded_paths[0]",
        ] {
            assert!(said.contains(field), "{said}");
        }
        assert!(!said.contains("paths[2]"), "{said}");
        assert!(selected(&source(&[], &[], false)).is_err());
        assert!(selected(&source(&["/a/b"], &["/a"], false)).is_err());
    }

    #[test]
    fn a_nested_path_on_another_file_system_is_never_dropped_in_silence() {
        assert!(
            selected(&source(&["/", "/home"], &[], true))
                .unwrap_err()
                .contains("/home")
        );
    }
}
