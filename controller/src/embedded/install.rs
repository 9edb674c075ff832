//! The command that installs PostgreSQL on this system, for error messages.

/// The line for this host's distribution; `major` if one version is needed.
pub(super) fn line(major: Option<u32>) -> String {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    line_for(&release, major)
}

fn line_for(release: &str, major: Option<u32>) -> String {
    let field = |name: &str| {
        release
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .unwrap_or_default()
            .trim_matches('"')
            .to_owned()
    };
    let family = format!(" {} {} ", field("ID"), field("ID_LIKE"));
    let is = |name: &str| family.contains(&format!(" {name} "));
    if is("debian") || is("ubuntu") {
        let package = major.map_or("postgresql".to_owned(), |major| {
            format!("postgresql-{major}")
        });
        return format!("apt-get install -y --no-install-recommends {package}");
    }
    if is("fedora") || is("rhel") || is("centos") || is("openEuler") || is("openeuler") {
        let package = major.map_or("postgresql-server".to_owned(), |major| {
            format!("postgresql{major}-server")
        });
        return format!("dnf install -y {package}");
    }
    if is("suse") || is("opensuse") {
        let package = major.map_or("postgresql-server".to_owned(), |major| {
            format!("postgresql{major}-server")
        });
        return format!("zypper install -y {package}");
    }
    if is("alpine") {
        return format!(
            "apk add postgresql{}",
            major.map_or(String::new(), |major| major.to_string())
        );
    }
    if is("arch") {
        return "pacman -S postgresql".to_owned();
    }
    match major {
        Some(major) => format!(
            "the installer of PostgreSQL {major} for this system (https://www.postgresql.org/download/)"
        ),
        None => {
            "the installer of PostgreSQL for this system (https://www.postgresql.org/download/)"
                .to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::line_for;

    #[test]
    fn the_line_fits_the_distribution() {
        let debian = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\n";
        assert_eq!(
            line_for(debian, None),
            "apt-get install -y --no-install-recommends postgresql"
        );
        assert_eq!(
            line_for(debian, Some(15)),
            "apt-get install -y --no-install-recommends postgresql-15"
        );
        let rocky = "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n";
        assert_eq!(
            line_for(rocky, Some(16)),
            "dnf install -y postgresql16-server"
        );
        assert_eq!(
            line_for("ID=openEuler", None),
            "dnf install -y postgresql-server"
        );
        assert!(line_for("", None).contains("postgresql.org"));
    }
}
