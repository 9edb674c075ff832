//! What a source takes, read from a request: every path in one spelling, every bad word named.

use bytes::Bytes;
use taf_proto::agent::FetchSelectionResponse;
use taf_proto::selection::Rules;
use taf_proto::{path, v1};

use super::status::Violations;

/// Most paths, and most excluded paths, of a source.
const PATHS_MOST: usize = 1000;
/// Most names of marker files.
const MARKERS_MOST: usize = 100;

/// An absolute path in its one spelling: no doubled and no trailing '/', but for the root itself.
fn absolute(raw: &[u8]) -> Result<Bytes, &'static str> {
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
pub(super) fn read_selection(source: &v1::Source, bad: &mut Violations) -> FetchSelectionResponse {
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

/// Paths of a message.
const PIECE: usize = 500;

/// A selection in messages of bounded size. Rules and limits come first, in a message of their own: the paths are what there can be
/// many of.
pub(super) fn pieces(whole: FetchSelectionResponse) -> Vec<FetchSelectionResponse> {
    let (paths, excluded) = (whole.paths, whole.excluded_paths);
    let mut pieces = vec![FetchSelectionResponse {
        paths: Vec::new(),
        excluded_paths: Vec::new(),
        ..whole
    }];
    for paths in paths.chunks(PIECE) {
        pieces.push(FetchSelectionResponse {
            paths: paths.to_vec(),
            ..FetchSelectionResponse::default()
        });
    }
    for excluded in excluded.chunks(PIECE) {
        pieces.push(FetchSelectionResponse {
            excluded_paths: excluded.to_vec(),
            ..FetchSelectionResponse::default()
        });
    }
    pieces
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

/// A limit of age as the API has it.
pub(super) fn age(seconds: u64) -> Option<prost_types::Duration> {
    (seconds > 0).then_some(prost_types::Duration {
        seconds: seconds as i64,
        nanos: 0,
    })
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
