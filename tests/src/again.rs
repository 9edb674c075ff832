//! Running a test once more as an ordinary user, when we are root.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Result, ensure};

/// Nobody's number, user and group.
const NOBODY: u32 = 65_534;

/// Runs the named test of the calling file again as `nobody`, if we are root. Its programs are copied to where that
/// user can get to them: the build folder may be in somebody's home.
pub fn as_user(test: &str) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let program = folder.path().join("again");
    fs::copy(std::env::current_exe()?, &program)?;
    let programs = crate::system::programs()?;
    for name in crate::system::PROGRAMS {
        let from = programs.join(name);
        // A link costs nothing, and nobody can write through it.
        fs::hard_link(&from, folder.path().join(name))
            .or_else(|_| fs::copy(&from, folder.path().join(name)).map(|_| ()))?;
    }
    let output = Command::new(&program)
        .args(["--exact", test, "--nocapture"])
        .current_dir("/")
        .env("TAF_PROGRAMS", folder.path())
        .env("HOME", "/nonexistent")
        .env("TMPDIR", "/tmp")
        .uid(NOBODY)
        .gid(NOBODY)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success() && text.contains("1 passed"),
        "as an ordinary user: {text}"
    );
    Ok(())
}
