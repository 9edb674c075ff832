//! Versions: what there is and what is in it. Nothing here needs a tape.

use std::collections::HashSet;

use prost::Message as _;
use taf_core::catalog::Kind as VersionKind;
use taf_core::instant::Day;
use taf_format::entry::{Kind, Time};
use taf_format::page::{self, DirectoryStat};
use taf_proto::path;
use taf_proto::v1::version_service_server::VersionService;
use taf_proto::v1::{
    self, Entry, EntryKind, GetEntryRequest, GetEntryResponse, GetVersionRequest,
    GetVersionResponse, IncompleteVersion, ListEntriesRequest, ListEntriesResponse,
    ListIncompleteVersionsRequest, ListIncompleteVersionsResponse, ListVersionsRequest,
    ListVersionsResponse, PreviewRemovalRequest, RemoveSourcesRequest, RemoveSourcesResponse,
    RestoreVersionRequest, RestoreVersionResponse, VerifyVersionRequest, VerifyVersionResponse,
};
use tonic::{Request, Response, Status};

use super::mutation::Mutation;
use super::paging::Page;
use super::retention::Keeping;
use super::{PAGE_DEFAULT, PAGE_MOST, moments, names, removal, sample, timestamp, version_type};
use super::{gaps, status};
use crate::access::Caller;
use crate::app::App;
use crate::catalog::gap::Gap;
use crate::catalog::view::Found;
use crate::catalog::{View, browse};
use crate::session::Registry;
use crate::store::lines;
use crate::store::partials;
use crate::store::parts::{self, Located};
use crate::store::removals::{self, NewRemoval};
use crate::store::verifications::{self, How, PartsOfVolume};
use crate::store::versions::{self, Version};
use crate::store::{self, expiry, unclaimed};

/// Entries of a page when the client does not say.
const ENTRIES_DEFAULT: usize = 1_000;
/// Most entries of a page.
const ENTRIES_MOST: usize = 10_000;
/// Bytes of entries at which a page ends, well below the limit of a message.
const ENTRIES_BYTES: usize = 2 << 20;

/// `taf.v1.VersionService`.
#[derive(Clone)]
pub struct Versions {
    pub(super) app: App,
    pub(super) registry: Registry,
}

impl Versions {
    /// The service. New jobs wake the reconciler.
    pub fn new(app: App, registry: Registry) -> Self {
        Self { app, registry }
    }

    pub(super) async fn version(
        &self,
        field: &str,
        name: &str,
    ) -> Result<(Version, Vec<Located>), Status> {
        let (line, number) = names::version_numbers(name).map_err(|e| status::invalid(field, e))?;
        let client = self.app.store.client().await?;
        let found = versions::version_look(&client, line, number)
            .await?
            .ok_or_else(|| status::not_found(name))?;
        if let Some(why) = &found.incomplete_reason {
            return Err(gaps::incomplete(name, why, "choose another version"));
        }
        let parts = parts::part_list_of_version(&client, line, number).await?;
        Ok((found, parts))
    }

    /// A version, whole or not.
    pub(super) async fn known(&self, field: &str, name: &str) -> Result<(Version, View), Status> {
        let (line, number) = names::version_numbers(name).map_err(|e| status::invalid(field, e))?;
        let client = self.app.store.client().await?;
        let found = versions::version_look(&client, line, number).await?;
        drop(client);
        let found = found.ok_or_else(|| status::not_found(name))?;
        let view = View::of(&self.app.store, &found).await?;
        Ok((found, view))
    }

    async fn verify(
        &self,
        mutation: &Mutation,
        request: &VerifyVersionRequest,
    ) -> Result<VerifyVersionResponse, Status> {
        let of = sample::read(
            request.sample_percent,
            request.time_limit.as_ref(),
            request.seed,
        )?;
        let (version, _) = self.version("name", &request.name).await?;
        readable(&request.name, &version)?;
        let mut client = self.app.store.client().await?;
        let tx = client.transaction().await.map_err(store::Error::from)?;
        if !request.validate_only
            && let Some(answer) = mutation.begin_on(&tx).await?
        {
            return Ok(answer);
        }
        let (line, number) = (version.line_id, version.version);
        let mut volumes = verifications::version_verifiable(&tx, line, number).await?;
        if volumes.is_empty() {
            return Err(no_parts(&request.name));
        }
        let counted = |volumes: &[PartsOfVolume]| {
            let counts = volumes.iter().map(|volume| volume.parts.len() as u64);
            counts.sum::<u64>()
        };
        let all = counted(&volumes);
        let parts = volumes.iter().flat_map(|volume| volume.parts.clone());
        let parts = sample::choose(parts.collect(), |(_, bytes)| *bytes, of);
        let chosen: HashSet<i64> = parts.into_iter().map(|(id, _)| id).collect();
        for volume in &mut volumes {
            volume.parts.retain(|(id, _)| chosen.contains(id));
        }
        volumes.retain(|volume| !volume.parts.is_empty());
        let mut answer = VerifyVersionResponse {
            jobs: Vec::new(),
            part_count: counted(&volumes),
            byte_count: volumes.iter().map(|volume| volume.bytes() as u64).sum(),
            volumes: volumes.iter().map(|v| names::volume(&v.barcode)).collect(),
            total_part_count: all,
            seed: of.map_or(0, |of| of.seed),
        };
        if request.validate_only {
            return Ok(answer);
        }
        let (which, actor) = (Some((line, number)), mutation.actor());
        let how = How {
            sample: of,
            ..How::default()
        };
        let jobs = verifications::parts_verify_on(&tx, which, &volumes, how, actor).await?;
        answer.jobs = jobs.into_iter().map(names::job).collect();
        mutation.finish_on(&tx, &answer).await?;
        tx.commit().await.map_err(store::Error::from)?;
        self.registry.wake();
        Ok(answer)
    }

    /// An archive that can be read.
    async fn archive(&self, name: &str) -> Result<Version, Status> {
        let (version, _) = self.version("version", name).await?;
        if version.kind != VersionKind::Archive.name() {
            return Err(status::precondition(
                "NOT_AN_ARCHIVE",
                format!(
                    "{name} is no archive: only what an archive holds is removed; make one with `taf run {} --type archive`",
                    version.plan
                ),
            ));
        }
        readable(name, &version)?;
        Ok(version)
    }

    async fn remove(
        &self,
        mutation: &Mutation,
        request: &RemoveSourcesRequest,
    ) -> Result<RemoveSourcesResponse, Status> {
        removal::check_copies(request.copies).map_err(|e| status::invalid("copies", e))?;
        let version = self.archive(&request.version).await?;
        let mut client = self.app.store.client().await?;
        let tx = client.transaction().await.map_err(store::Error::from)?;
        if let Some(answer) = mutation.begin_on(&tx).await? {
            return Ok(answer);
        }
        let (line_id, number) = (version.line_id, version.version);
        // From here on it can't expire before it is seen that it is read.
        if !expiry::version_use_on(&tx, version.line_id, version.version).await? {
            return Err(status::not_found(&request.version));
        }
        lines::line_lock_on(&tx, line_id).await?;
        if let Some(job) = removals::removal_active_on(&tx, line_id, number).await? {
            return Err(status::precondition(
                "REMOVAL_RUNNING",
                format!(
                    "{} removes what {} holds already: wait for it or cancel it",
                    names::job(job),
                    request.version
                ),
            ));
        }
        let new = NewRemoval {
            line_id,
            version: number,
            agent_id: version.agent_id,
            request: &RemoveSourcesRequest {
                request_id: String::new(),
                ..request.clone()
            }
            .encode_to_vec(),
            cause: None,
        };
        // From here on it can't expire before it is seen that it is read.
        if !expiry::version_use_on(&tx, line_id, number).await? {
            return Err(status::not_found(&request.version));
        }
        let job = removals::job_create_removal_on(&tx, &new, mutation.actor()).await?;
        let answer = RemoveSourcesResponse {
            job: names::job(job),
        };
        mutation.finish_on(&tx, &answer).await?;
        tx.commit().await.map_err(store::Error::from)?;
        self.registry.wake();
        Ok(answer)
    }
}

/// An absolute path without slash at either end.
pub(super) fn relative(given: Option<&v1::Path>) -> Result<Vec<u8>, String> {
    let raw =
        path::to_raw(given.unwrap_or(&v1::Path::default())).map_err(|error| error.to_string())?;
    let Some(path) = raw.strip_prefix(b"/") else {
        return Err("must be absolute: begin with '/'".to_owned());
    };
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let bad = |component: &[u8]| matches!(component, b"" | b"." | b"..") || component.contains(&0);
    if !path.is_empty() && path.split(|&byte| byte == b'/').any(bad) {
        return Err("must have no empty component, no '.' and no '..'".to_owned());
    }
    Ok(path.to_vec())
}

/// Refuses a version of which a volume was erased.
pub(super) fn readable(name: &str, version: &Version) -> Result<(), Status> {
    match &version.lost_reason {
        None => Ok(()),
        Some(why) => Err(status::precondition(
            "VERSION_LOST",
            format!("{name} can't be restored any more: {why}; choose another with `taf versions`"),
        )),
    }
}

pub(super) fn no_parts(name: &str) -> Status {
    status::precondition(
        "VERSION_HAS_NO_PARTS",
        format!("{name} has nothing on tape: choose another version"),
    )
}

/// Resource names of the volumes of some parts, each once, in order.
pub(super) fn volumes<'a>(parts: impl IntoIterator<Item = &'a Located>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for part in parts {
        let name = names::volume(&part.barcode);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

pub(super) fn message(version: &Version, parts: &[Located]) -> v1::Version {
    v1::Version {
        name: names::version(version.line_id, version.version),
        plan: names::plan(&version.plan),
        source: names::source(&version.source),
        number: version.version as u64,
        r#type: version_type::stored(&version.kind).into(),
        start_time: Some(timestamp(version.started_at)),
        publish_time: Some(timestamp(version.published_at)),
        file_count: version.file_count as u64,
        directory_count: version.directory_count as u64,
        byte_count: version.byte_count as u64,
        stored_byte_count: version.stored_byte_count as u64,
        issue_count: version.issue_count as u64,
        volumes: volumes(parts),
        job: names::job(version.job_id),
        lost_reason: version.lost_reason.clone().unwrap_or_default(),
        verify_time: version.verified_at.map(timestamp),
        damaged_part_count: version.damaged_parts as u64,
        parent_number: version.parent as u64,
        full_number: version.floor as u64,
        rebuild_time: version.rebuilt_at.map(timestamp),
        // What is said of how long it is kept comes from elsewhere.
        ..v1::Version::default()
    }
}

/// Behind which version a page begins.
fn after(page: &Page) -> Result<Option<versions::Order>, Status> {
    match numbers(page)?.as_deref() {
        None => Ok(None),
        Some(&[rank, line, number]) => Ok(Some((rank, line, number))),
        Some(_) => Err(status::invalid("page_token", "is damaged")),
    }
}

/// The numbers of the key that a page begins behind; none on the first one.
fn numbers(page: &Page) -> Result<Option<Vec<i64>>, Status> {
    if page.after().is_none() {
        return Ok(None);
    }
    let numbers = page.after_text()?.split(' ').map(str::parse);
    let numbers = numbers.collect::<Result<Vec<i64>, _>>();
    numbers
        .map(Some)
        .map_err(|_| status::invalid("page_token", "is damaged"))
}

pub(super) fn moment(time: Time) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: time.seconds,
        nanos: time.nanos as i32,
    }
}

fn kind(kind: Kind) -> EntryKind {
    match kind {
        Kind::File => EntryKind::File,
        Kind::Directory => EntryKind::Directory,
        Kind::Symlink => EntryKind::Symlink,
        Kind::Fifo => EntryKind::Fifo,
        Kind::CharDevice => EntryKind::CharDevice,
        Kind::BlockDevice => EntryKind::BlockDevice,
    }
}

pub(super) fn entry(entry: &page::Entry) -> Entry {
    let bare = Entry {
        file_name: Some(path::from_raw(entry.name.clone())),
        kind: kind(entry.kind).into(),
        ..Entry::default()
    };
    if entry.kind == Kind::Directory {
        return bare;
    }
    Entry {
        size: entry.size,
        modify_time: Some(moment(entry.mtime)),
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        link_target: (entry.kind == Kind::Symlink)
            .then(|| path::from_raw(entry.link_target.clone())),
        blake3_prefix: entry
            .hash
            .map(|hash| hash.to_vec().into())
            .unwrap_or_default(),
        link_group: entry.link_group,
        changed_while_read: entry.changed_while_read,
        ..bare
    }
}

pub(super) fn directory(path: &[u8], stat: &DirectoryStat) -> Entry {
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    Entry {
        file_name: Some(path::from_raw(name.to_vec())),
        kind: EntryKind::Directory.into(),
        modify_time: Some(moment(stat.mtime)),
        mode: stat.mode,
        uid: stat.uid,
        gid: stat.gid,
        listing_unknown: stat.flags & page::FLAG_LISTING_UNKNOWN != 0,
        ..Entry::default()
    }
}

pub(super) fn no_such_path(path: &[u8]) -> Status {
    crate::catalog::Error::NotFound([b"/", path].concat()).into()
}

#[tonic::async_trait]
impl VersionService for Versions {
    async fn list_versions(
        &self,
        request: Request<ListVersionsRequest>,
    ) -> Result<Response<ListVersionsResponse>, Status> {
        let request = request.into_inner();
        let plan = match request.plan.as_str() {
            "" => None,
            name => Some(names::plan_id(name).map_err(|e| status::invalid("plan", e))?),
        };
        let kind = version_type::asked(request.r#type).map_err(|e| status::invalid("type", e))?;
        let now = moments::now(&request.time_zone)?;
        let since = moments::read("since", &request.since, &now, Day::Begins)?;
        let until = moments::read("until", &request.until, &now, Day::Ends)?;
        let scope = format!(
            "versions {} {:?} {} {} {} {}",
            request.plan, kind, request.since, request.until, request.time_zone, request.tag
        );
        let page = Page::read(
            &scope,
            request.page_size,
            &request.page_token,
            PAGE_DEFAULT,
            PAGE_MOST,
        )?;
        let filter = versions::Filter {
            plan,
            kind: kind.map(VersionKind::name),
            archives: None,
            tag: (!request.tag.is_empty()).then_some(request.tag.as_str()),
            since,
            until,
            incomplete: true,
        };
        let client = self.app.store.client().await?;
        let before = after(&page)?;
        let mut rows = versions::version_list(&client, before, filter, page.limit()).await?;
        let next_page_token = page.cut(&mut rows, |row| {
            format!("{} {} {}", row.rank, row.line_id, row.version)
        });
        let mut messages = Vec::with_capacity(rows.len());
        for row in &rows {
            let parts = parts::part_list_of_version(&client, row.line_id, row.version).await?;
            messages.push(message(row, &parts));
        }
        let keeping = Keeping::of(&client, rows.iter().map(|row| row.line_id)).await?;
        for (version, row) in messages.iter_mut().zip(&rows) {
            keeping.tell(version);
            gaps::tell(&client, row, version).await?;
        }
        Ok(Response::new(ListVersionsResponse {
            versions: messages,
            next_page_token,
        }))
    }

    async fn get_version(
        &self,
        request: Request<GetVersionRequest>,
    ) -> Result<Response<GetVersionResponse>, Status> {
        let (version, view) = self.known("name", &request.get_ref().name).await?;
        let client = self.app.store.client().await?;
        let mut told = message(&version, &view.parts(&client).await?);
        Keeping::of(&client, [version.line_id])
            .await?
            .tell(&mut told);
        gaps::tell(&client, &version, &mut told).await?;
        Ok(Response::new(GetVersionResponse {
            version: Some(told),
        }))
    }

    async fn list_incomplete_versions(
        &self,
        request: Request<ListIncompleteVersionsRequest>,
    ) -> Result<Response<ListIncompleteVersionsResponse>, Status> {
        let request = request.into_inner();
        let page = Page::read(
            "incomplete versions",
            request.page_size,
            &request.page_token,
            PAGE_DEFAULT,
            PAGE_MOST,
        )?;
        let behind = match numbers(&page)?.as_deref() {
            None => (0, 0),
            Some(&[line, number]) => (line, number),
            Some(_) => return Err(status::invalid("page_token", "is damaged")),
        };
        let client = self.app.store.client().await?;
        let mut rows = partials::version_list_incomplete(&client, behind, page.limit()).await?;
        let next_page_token = page.cut(&mut rows, |row| format!("{} {}", row.line_id, row.version));
        let mut versions = Vec::with_capacity(rows.len());
        for row in rows {
            let mut told = IncompleteVersion {
                name: names::version(row.line_id, row.version),
                plan: row.plan.map(|plan| names::plan(&plan)).unwrap_or_default(),
                number: row.version as u64,
                archive: row.archive,
                ..IncompleteVersion::default()
            };
            if let Some((started_at, reason)) = row.known {
                let gap = Gap::of(&client, row.line_id, row.version).await?;
                told.start_time = Some(timestamp(started_at));
                told.reason = reason;
                told.unknown_since_number = gap.as_ref().map_or(0, gaps::since);
                told.nothing_known = gap.as_ref().is_some_and(gaps::is_nothing_known);
                told.lacking_volumes = gap.as_ref().map(gaps::volumes).unwrap_or_default();
            } else {
                let met = unclaimed::version_untold(&client, row.line_id, row.version).await?;
                told.reason = gaps::untold(&met.unwrap_or_default());
                told.nothing_known = true;
            }
            versions.push(told);
        }
        Ok(Response::new(ListIncompleteVersionsResponse {
            versions,
            next_page_token,
        }))
    }

    async fn list_entries(
        &self,
        request: Request<ListEntriesRequest>,
    ) -> Result<Response<ListEntriesResponse>, Status> {
        let request = request.into_inner();
        let directory =
            relative(request.directory.as_ref()).map_err(|e| status::invalid("directory", e))?;
        let (_, view) = self.known("version", &request.version).await?;
        let scope = format!("entries {} {}", request.version, path::display(&directory));
        let page = Page::read(
            &scope,
            request.page_size,
            &request.page_token,
            ENTRIES_DEFAULT,
            ENTRIES_MOST,
        )?;
        let found = browse::list(&view, &directory, page.after(), page.limit() as usize).await?;
        let browse::Listing {
            entries: mut rows,
            unknown,
            gap,
        } = found.ok_or_else(|| no_such_path(&directory))?;
        let mut messages = Vec::with_capacity(rows.len());
        let mut bytes = 0;
        for row in &rows {
            let message = entry(row);
            bytes += message.encoded_len() + 8;
            if bytes > ENTRIES_BYTES && !messages.is_empty() {
                break;
            }
            messages.push(message);
        }
        // Of long names fewer fit; the token then begins behind the last that did.
        let page = if messages.len() < rows.len().min(page.limit() as usize - 1) {
            rows.truncate(messages.len() + 1);
            Page::read(
                &scope,
                messages.len() as i32,
                &request.page_token,
                ENTRIES_DEFAULT,
                ENTRIES_MOST,
            )?
        } else {
            page
        };
        let next_page_token = page.cut(&mut rows, |row| row.name.clone());
        messages.truncate(rows.len());
        gaps::tell_entries(&view, &directory, &rows, &mut messages).await?;
        let lacks = view.gap().filter(|_| gap).and_then(|gap| gap.unknown());
        Ok(Response::new(ListEntriesResponse {
            entries: messages,
            next_page_token,
            listing_unknown: unknown,
            lacks: lacks.unwrap_or_default(),
        }))
    }

    async fn get_entry(
        &self,
        request: Request<GetEntryRequest>,
    ) -> Result<Response<GetEntryResponse>, Status> {
        let request = request.into_inner();
        let wanted = relative(request.path.as_ref()).map_err(|e| status::invalid("path", e))?;
        let (_, view) = self.known("version", &request.version).await?;
        let client = self.app.store.client().await?;
        let parts = view.parts(&client).await?;
        drop(client);
        let found = view
            .stat(&wanted)
            .await?
            .ok_or_else(|| no_such_path(&wanted))?;
        let gap = view.gap();
        let (mut message, place, length) = match &found {
            Found::Entry(found) => (entry(found), found.place, found.tar_length),
            Found::Directory(stat) => (directory(&wanted, stat), stat.place, stat.tar_length),
            Found::Unknown => return Err(gaps::unknown(&wanted, gap.as_deref())),
        };
        let unmet = gap.and_then(|gap| gap.unmet(place, length));
        message.lacks = unmet.unwrap_or_default();
        let holding = parts.iter().filter(|part| {
            place.is_some_and(|place| {
                part.archive_ordinal as u32 == place.archive_ordinal
                    && (part.first_tar_offset as u64) < place.tar_offset.saturating_add(length)
                    && place.tar_offset < part.end_tar_offset as u64
            })
        });
        Ok(Response::new(GetEntryResponse {
            entry: Some(message),
            volumes: volumes(holding),
        }))
    }

    async fn verify_version(
        &self,
        request: Request<VerifyVersionRequest>,
    ) -> Result<Response<VerifyVersionResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let request = request.into_inner();
        let mutation = Mutation::new(
            &caller,
            "VersionService.VerifyVersion",
            request.name.as_str(),
            &request.request_id,
            &request,
        )?;
        let outcome = self.verify(&mutation, &request).await;
        if request.validate_only {
            return outcome.map(Response::new);
        }
        mutation.concluded(&self.app.store, outcome).await
    }

    async fn remove_sources(
        &self,
        request: Request<RemoveSourcesRequest>,
    ) -> Result<Response<RemoveSourcesResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let request = request.into_inner();
        let mutation = Mutation::new(
            &caller,
            "VersionService.RemoveSources",
            request.version.as_str(),
            &request.request_id,
            &request,
        )?;
        let outcome = self.remove(&mutation, &request).await;
        mutation.concluded(&self.app.store, outcome).await
    }

    type PreviewRemovalStream = removal::Preview;

    async fn preview_removal(
        &self,
        request: Request<PreviewRemovalRequest>,
    ) -> Result<Response<Self::PreviewRemovalStream>, Status> {
        let request = request.into_inner();
        removal::check_copies(request.copies).map_err(|e| status::invalid("copies", e))?;
        let version = self.archive(&request.version).await?;
        let preview = removal::preview(&self.app.store, &version, request.copies).await?;
        Ok(Response::new(preview))
    }

    async fn restore_version(
        &self,
        request: Request<RestoreVersionRequest>,
    ) -> Result<Response<RestoreVersionResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let request = request.into_inner();
        if request.dry_run && !request.delete_extra {
            return Ok(Response::new(self.restore(None, &request).await?));
        }
        let mutation = Mutation::new(
            &caller,
            "VersionService.RestoreVersion",
            request.version.as_str(),
            &request.request_id,
            &request,
        )?;
        let outcome = self.restore(Some(&mutation), &request).await;
        mutation.concluded(&self.app.store, outcome).await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_absolute_and_plain() {
        let given = |text: &str| relative(Some(&path::from_raw(text.as_bytes().to_vec())));
        assert_eq!(given("/").unwrap(), b"");
        assert_eq!(given("/srv/a/").unwrap(), b"srv/a");
        for wrong in ["", "srv", "/srv/../etc", "/a//", "/a//b", "/./a", "/a\0b"] {
            assert!(given(wrong).is_err(), "{wrong:?}");
        }
        assert!(relative(None).is_err());
    }
}
