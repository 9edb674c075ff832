//! Versions that came back and are not whole, in words: what they lack, and which volume would help.

use taf_core::Fault;
use taf_format::page;
use taf_proto::path;
use taf_proto::v1::{self, VersionType};
use tonic::Status;

use super::{names, status, version_type};
use crate::catalog::gap::{self, Gap, Shown, Since};
use crate::catalog::view::join;
use crate::catalog::{Error, View};
use crate::store::GenericClient;
use crate::store::agents::Agent;
use crate::store::unclaimed::Met;
use crate::store::versions::Version;

/// What is refused because a version is not whole.
pub(super) fn incomplete(name: &str, why: &str, instead: &str) -> Status {
    status::fault_with(
        tonic::Code::FailedPrecondition,
        "VERSION_INCOMPLETE",
        format!(
            "{name} is not whole ({why}): bring what it lacks and take it in with `taf catalog rebuild BARCODE`, or {instead}"
        ),
        &[("version", name)],
    )
}

/// Why nothing is known of a version of which only this was met.
pub(super) fn untold(met: &Met) -> String {
    let (count, volumes) = (met.parts, met.volumes.join(" "));
    let parts = match (count, volumes.as_str()) {
        (_, "") => "what was met of it was erased since".to_owned(),
        (1, volume) => format!("1 part of it is on {volume}"),
        (count, volumes) => format!("{count} parts of it are on {volumes}"),
    };
    format!(
        "no cartridge that was met has its closing record, so it is not known what it was, nor whether it was ever whole; {parts}"
    )
}

/// Why an agent gets no restore of a version that is not whole: it would leave out what that lacks without a word. None if it can, or if
/// that is not known.
pub(crate) fn too_old(agent: &Agent) -> Option<Fault> {
    (agent.reads_incomplete == Some(false)).then(|| {
        let (name, host) = (names::agent(&agent.name), &agent.host_name);
        let version = &agent.program_version;
        Fault::new(
            "AGENT_TOO_OLD",
            format!(
                "the version is not whole, and {name} on host {host} is too old (version {version}) to say what is left out"
            ),
            format!(
                "upgrade the source agent on host {host}, or restore by another one with `--agent`"
            ),
        )
    })
}

/// What is at a path can't be told.
pub(super) fn unknown(directory: &[u8], gap: Option<&Gap>) -> Status {
    let path = path::display(&[b"/", directory].concat());
    let why = gap.and_then(Gap::unknown).unwrap_or_default();
    status::precondition(
        "UNKNOWN_UNTIL_MET",
        format!(
            "what is at {path}, if anything, is {why}: bring it, and take it in with `taf catalog rebuild BARCODE`"
        ),
    )
}

/// Says of a version what it lacks, if it is not whole.
pub(super) async fn tell(
    client: &impl GenericClient,
    version: &Version,
    told: &mut v1::Version,
) -> Result<(), Error> {
    let Some(reason) = &version.incomplete_reason else {
        return Ok(());
    };
    told.incomplete_reason.clone_from(reason);
    told.publish_time = None;
    told.keep_reasons =
        vec!["it is not whole: it stays until it is, or is given up by force".into()];
    if let Some(gap) = Gap::of(client, version.line_id, version.version).await? {
        told.unknown_since_number = since(&gap);
        told.nothing_known = is_nothing_known(&gap);
        told.lacking_volumes = volumes(&gap);
    }
    Ok(())
}

/// The version since which not all listings are known; 0 if all are, or if nothing is known at all.
pub(super) fn since(gap: &Gap) -> u64 {
    match gap.since() {
        Some(Since::Version(since)) => since as u64,
        Some(Since::Ever) | None => 0,
    }
}

/// Whether nothing at all is known of what was in it.
pub(super) fn is_nothing_known(gap: &Gap) -> bool {
    gap.since() == Some(Since::Ever)
}

/// Resource names of the volumes that would help.
pub(super) fn volumes(gap: &Gap) -> Vec<String> {
    gap.volumes().into_iter().map(names::volume).collect()
}

/// Says of entries of a directory what is not known of them, or can't be read.
pub(super) async fn tell_entries(
    view: &View,
    directory: &[u8],
    entries: &[page::Entry],
    told: &mut [v1::Entry],
) -> Result<(), Error> {
    let shown = entries.iter().take(told.len());
    let shown = shown.map(|entry| (join(directory, &entry.name), Shown::Entry(entry)));
    let lacks = gap::lacks(view, &shown.collect::<Vec<_>>()).await?;
    for (lacks, told) in lacks.into_iter().zip(told) {
        told.lacks = lacks.unwrap_or_default();
    }
    Ok(())
}

/// A sentence of what is not known in and below a directory of a version; none if all is.
pub(super) async fn told_below(
    view: &View,
    version: &Version,
    directory: &[u8],
) -> Result<Option<String>, Error> {
    let Some(gap) = view.gap() else {
        return Ok(None);
    };
    if !gap::is_unknown_below(view, directory).await? {
        return Ok(None);
    }
    let mark = match version_type::stored(&version.kind) {
        VersionType::Archive => "a",
        _ => "",
    };
    Ok(Some(format!(
        "not all of {}@{mark}{} is known: {}",
        version.plan,
        version.version,
        gap.unknown().unwrap_or_default()
    )))
}
