//! The whole repository has unsafe code in one file, and every crate says so to the compiler.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

/// All Rust files below a folder, but for what is built.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !path.is_symlink() && name != "target" && !name.starts_with('.') {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn unsafe_code_is_in_one_file_and_denied_everywhere_else() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    sources(&root, &mut files);
    // Put together, so that this file is not found itself.
    let words = ["{", "fn", "impl", "extern"].map(|word| format!("{} {word}", "unsafe"));
    let allowed = format!("allow({}_code)", "unsafe");
    let mut crates = 0;
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let has = words
            .iter()
            .chain([&allowed])
            .any(|word| text.contains(word.as_str()));
        assert_eq!(
            has,
            file.ends_with("tape-agent/scsi/src/transport/ioctl.rs"),
            "{}",
            file.display()
        );
        let is_root = file.ends_with("src/lib.rs")
            || file.ends_with("src/main.rs")
            || file
                .parent()
                .is_some_and(|folder| folder.ends_with("src/bin"));
        if is_root {
            crates += 1;
            let says = ["forbid", "deny"]
                .iter()
                .any(|level| text.contains(&format!("#![{level}({}_code)]", "unsafe")));
            assert!(says, "{} neither forbids nor denies it", file.display());
        }
    }
    assert!(crates > 15, "{crates}");
}
