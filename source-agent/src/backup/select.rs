//! What a backup takes: the controller's selection, within what this host allows.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use taf_proto::agent::catalog_service_client::CatalogServiceClient;
use taf_proto::agent::{FetchSelectionRequest, FetchSelectionResponse};
use taf_proto::path::display;
use taf_proto::v1::LeftOutReason;
use taf_tree::walk::Options;

use super::leave_out::{LeaveOut, Notes};
use super::{Context, path_lists};
use crate::allow::{AllowList, Purpose, resolve_parent};
use crate::config::{Config, plain};
use crate::fault::{self, Error, fault};

/// Most paths of a selection, both kinds together.
const PATHS_MAX: usize = 1_000_000;

/// Fetches and checks the selection.
pub(super) async fn options(
    context: &Context<'_>,
    one_file_system: bool,
) -> Result<Options, Error> {
    let mut client = CatalogServiceClient::new(context.controller.clone())
        .max_decoding_message_size(taf_peer::MESSAGE_LIMIT);
    let lost = |status: tonic::Status| {
        fault::from_status(
            &status,
            "CONTROLLER_LOST",
            "the controller did not say what to back up",
        )
    };
    let request = FetchSelectionRequest {
        key: Some(context.key),
    };
    let mut stream = client
        .fetch_selection(request)
        .await
        .map_err(lost)?
        .into_inner();
    let mut whole = stream.message().await.map_err(lost)?.unwrap_or_default();
    while let Some(some) = stream.message().await.map_err(lost)? {
        gather(&mut whole, some)?;
    }
    let config = context.config.clone();
    let checked =
        tokio::task::spawn_blocking(move || check(&config, &whole, one_file_system, None));
    let checked = checked
        .await
        .map_err(|error| fault::internal(error.to_string()))??;
    for (path, reason) in checked.missing {
        context.issues.put(&path, "VANISHED", reason).await;
    }
    Ok(checked.options)
}

/// Adds a further piece of a selection.
pub(super) fn gather(
    whole: &mut FetchSelectionResponse,
    piece: FetchSelectionResponse,
) -> Result<(), Error> {
    whole.paths.extend(piece.paths);
    whole.excluded_paths.extend(piece.excluded_paths);
    if whole.paths.len() + whole.excluded_paths.len() > PATHS_MAX {
        return Err(fault::protocol("the selection has over a million paths"));
    }
    Ok(())
}

/// What is walked.
pub(super) struct Checked {
    pub(super) options: Options,
    /// Paths, raw and below the top, that were chosen and can't be walked, and why.
    pub(super) missing: Vec<(Vec<u8>, String)>,
}

/// Turns a selection into a walk, within what this host allows. Whoever wants to know what is left out gives `notes`.
///
/// # Errors
/// The fault with which a backup of it would end.
pub(super) fn check(
    config: &Config,
    whole: &FetchSelectionResponse,
    one_file_system: bool,
    notes: Option<Notes>,
) -> Result<Checked, Error> {
    let listed = path_lists::read(config, &whole.path_lists)?;
    let roots: Vec<&[u8]> = whole.paths.iter().map(AsRef::as_ref).collect();
    let roots = roots.into_iter().chain(listed.iter().map(Vec::as_slice));
    let selected = select(config, roots, &whole.excluded_paths)?;
    let missing = selected.missing.iter().map(|(path, reason)| {
        let path = path.get(1..).unwrap_or_default();
        (path.to_vec(), reason.clone())
    });
    Ok(Checked {
        missing: missing.collect(),
        options: Options {
            spill: Some(config.state.clone()),
            ..walk_options(selected, whole, one_file_system, notes)?
        },
    })
}

/// A checked selection.
#[derive(Debug)]
struct Selected {
    roots: Vec<Vec<u8>>,
    /// Absolute, and by whose word.
    excluded: HashMap<Vec<u8>, LeftOutReason>,
    /// Paths that are not there, and why they don't count as such.
    missing: Vec<(Vec<u8>, String)>,
}

fn select<'a>(
    config: &Config,
    roots: impl IntoIterator<Item = &'a [u8]>,
    excluded: &[impl AsRef<[u8]>],
) -> Result<Selected, Error> {
    let read = |raw: &[u8]| {
        plain(raw).ok_or_else(|| {
            fault::protocol(format!(
                "the selection has {}, which is not an absolute path without . and ..",
                display(raw)
            ))
        })
    };
    let allowed = AllowList::new(Purpose::Backup, &config.backup_allowed);
    let (mut found, mut missing) = (BTreeSet::new(), Vec::new());
    for root in roots {
        let path = read(root)?;
        allowed.check(&path)?;
        match why_missing(&path) {
            None => {
                found.insert(path);
            }
            Some(reason) => missing.push((path, reason)),
        }
    }
    if found.is_empty() {
        let host = taf_peer::enrol::host_name();
        let Some((path, reason)) = missing.first() else {
            return Err(fault::protocol("the selection is empty"));
        };
        return Err(fault(
            "PATH_MISSING",
            format!("nothing to back up on {host}: {} {reason}", display(path)),
            "see whether it is mounted, or correct the paths of the source",
        ));
    }
    let mut all = HashMap::new();
    for path in excluded {
        all.insert(read(path.as_ref())?, LeftOutReason::ExcludedPath);
    }
    for path in config.exclude.iter().chain([&config.state]) {
        let path = plain(path.as_os_str().as_bytes());
        all.extend(path.map(|path| (path, LeftOutReason::AgentExcludes)));
    }
    Ok(Selected {
        roots: found.into_iter().collect(),
        excluded: all,
        missing,
    })
}

/// Why the path can't be walked, if so. The walk follows no links, so one above the path hides it.
fn why_missing(raw: &[u8]) -> Option<String> {
    let path = Path::new(OsStr::from_bytes(raw));
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Some("was chosen but does not exist".into())
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Some("was chosen, but something above it is no directory".into())
        }
        // The walk says what it can't read.
        Err(_) => None,
        Ok(_) => match resolve_parent(path) {
            Ok(real) if real != path => Some(format!(
                "was chosen, but a link leads there; choose {}",
                display(real.as_os_str().as_bytes())
            )),
            _ => None,
        },
    }
}

fn walk_options(
    selected: Selected,
    whole: &FetchSelectionResponse,
    one_file_system: bool,
    notes: Option<Notes>,
) -> Result<Options, Error> {
    let excluded = selected
        .excluded
        .into_iter()
        .map(|(path, by)| (path[1..].to_vec(), by))
        .collect();
    let leave_out = LeaveOut::new(whole, excluded, &selected.roots).map_err(|error| {
        fault(
            "SELECTION_INVALID",
            format!("rule {} of the source {error}", error.rule + 1),
            "correct the rules of the source",
        )
    })?;
    let leave_out = match notes {
        Some(notes) => leave_out.noting(notes),
        None => leave_out,
    };
    Ok(Options {
        one_file_system,
        exclude: Some(Box::new(leave_out)),
        ..Options::new(selected.roots)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn config(allowed: &Path) -> Config {
        Config {
            controller: "c:1".into(),
            state: "/var/lib/taf/agent".into(),
            backup_allowed: vec![allowed.to_owned()],
            restore_allowed: Vec::new(),
            remove_allowed: Vec::new(),
            readers: 1,
            exclude: vec!["/somewhere/scratch/".into()],
            spool: None,
            log_json: false,
        }
    }

    #[test]
    fn some_missing_is_an_issue_and_all_missing_a_fault() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap();
        std::fs::create_dir(top.join("there")).unwrap();
        std::os::unix::fs::symlink("there", top.join("link")).unwrap();
        let config = config(&top);
        let bytes = |name: &str| top.join(name).into_os_string().into_encoded_bytes();
        let none: [&[u8]; 0] = [];
        let chosen = |paths: &[Vec<u8>]| select(&config, paths.iter().map(Vec::as_slice), &none);
        let selected = chosen(&[bytes("there"), bytes("gone")]).unwrap();
        assert_eq!(selected.roots, [bytes("there")]);
        assert_eq!(selected.missing[0].0, bytes("gone"));
        for own in ["/somewhere/scratch", "/var/lib/taf/agent"] {
            let by = selected.excluded.get(own.as_bytes());
            assert_eq!(by, Some(&LeftOutReason::AgentExcludes));
        }
        for lost in ["gone", "link/x"] {
            let fault = chosen(&[bytes(lost)]).unwrap_err().into_fault();
            assert_eq!(fault.reason, "PATH_MISSING", "{fault:?}");
        }
        std::fs::create_dir(top.join("there/x")).unwrap();
        let fault = chosen(&[bytes("link/x")]).unwrap_err().into_fault();
        assert!(fault.message.contains("there/x"), "{fault:?}");
        let outside = chosen(&[bytes("there"), b"/etc".to_vec()]);
        assert_eq!(outside.unwrap_err().into_fault().reason, "PATH_NOT_ALLOWED");
        let odd = chosen(&[b"/a/../b".to_vec()]);
        assert_eq!(odd.unwrap_err().into_fault().reason, "PROTOCOL");
    }
}
