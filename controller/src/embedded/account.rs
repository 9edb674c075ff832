//! Under whose name the private database runs: our own, or as root a service user's.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::unistd::{Uid, User, geteuid};

use super::Error;

/// Users that root gives the database to, best first.
const SERVICE_USERS: [&str; 2] = ["taf", "postgres"];

/// Who runs the database.
#[derive(Debug, Clone)]
pub(super) struct Account {
    /// Set if we are root: whom to become.
    service: Option<User>,
}

impl Account {
    /// Whoever owns `data` already, else the first service user there is; ourselves if we are not root.
    pub(super) fn choose(data: &Path) -> Result<Self, Error> {
        let owner = std::fs::metadata(data).ok().map(|found| found.uid());
        let us = geteuid();
        if !us.is_root() {
            return match owner {
                Some(owner) if owner != us.as_raw() => Err(Error::Owner {
                    folder: data.to_path_buf(),
                    owner,
                }),
                _ => Ok(Self { service: None }),
            };
        }
        if let Some(owner) = owner.filter(|owner| *owner != 0) {
            let user = User::from_uid(Uid::from_raw(owner)).ok().flatten();
            let service = user.ok_or_else(|| Error::Owner {
                folder: data.to_path_buf(),
                owner,
            })?;
            return Ok(Self {
                service: Some(service),
            });
        }
        let service = SERVICE_USERS
            .iter()
            .find_map(|name| User::from_name(name).ok().flatten());
        Ok(Self {
            service: Some(service.ok_or(Error::NoServiceUser)?),
        })
    }

    /// A command that runs under this account, with nothing of our environment that PostgreSQL would listen to.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear();
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command.env("LC_ALL", "C").env("TZ", "UTC");
        if let Some(user) = &self.service {
            // Setting the id from root also drops root's further groups.
            command
                .uid(user.uid.as_raw())
                .gid(user.gid.as_raw())
                .env("HOME", &user.dir);
        }
        command
    }

    /// Makes a folder that only this account may enter, if it is not there.
    pub(super) fn make_private(&self, folder: &Path) -> Result<(), Error> {
        match std::fs::create_dir(folder) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && folder.is_dir() => {}
            Err(error) => return Err(Error::io(folder)(error)),
        }
        self.own(folder)?;
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
            .map_err(Error::io(folder))
    }

    /// Gives a file to this account.
    pub(super) fn own(&self, path: &Path) -> Result<(), Error> {
        match &self.service {
            Some(user) => chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
                .map_err(Error::io(path)),
            None => Ok(()),
        }
    }

    /// Sees that the account can get down to `folder`. `home` itself is made passable if it is ours.
    pub(super) fn check_way(&self, folder: &Path, home: &Path) -> Result<(), Error> {
        let Some(user) = &self.service else {
            return Ok(());
        };
        for step in folder.ancestors().skip(1) {
            let Ok(found) = std::fs::metadata(step) else {
                continue;
            };
            let mode = found.mode();
            let may = if found.uid() == user.uid.as_raw() {
                mode & 0o100 != 0
            } else if found.gid() == user.gid.as_raw() {
                mode & 0o010 != 0
            } else {
                mode & 0o001 != 0
            };
            if may {
                continue;
            }
            if step.starts_with(home) {
                let open = std::fs::Permissions::from_mode((mode & 0o7777) | 0o011);
                std::fs::set_permissions(step, open).map_err(Error::io(step))?;
            } else {
                return Err(Error::Unreachable {
                    folder: step.to_path_buf(),
                    user: user.name.clone(),
                });
            }
        }
        Ok(())
    }
}
