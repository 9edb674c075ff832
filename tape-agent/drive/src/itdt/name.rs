//! How a drive is named that is driven by `itdt` and `st`: `itdt:DEVICE`, or `itdt:PROGRAM@DEVICE`.

use std::path::Path;

use taf_scsi::transport;

/// What the name begins with.
pub const PREFIX: &str = "itdt:";
/// The program if none is named: sought where the shell would seek it.
pub const PROGRAM: &str = "itdt";

/// A name, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name<'a> {
    /// The program.
    pub program: &'a Path,
    /// The drive: by serial number, or any of its nodes.
    pub device: transport::Name<'a>,
}

/// Reads what stands behind [`PREFIX`], or says what should.
pub(crate) fn parse(rest: &str) -> Result<Name<'_>, String> {
    let (program, device) = match rest.split_once('@') {
        Some((program, device)) => (Path::new(program), device),
        None => (Path::new(PROGRAM), rest),
    };
    if rest.contains('@') && !program.is_absolute() {
        return Err(format!(
            "the program before the @ must be an absolute path, such as {PREFIX}/opt/itdt/itdt@{device}"
        ));
    }
    match transport::Name::parse(device) {
        Ok(device @ (transport::Name::Serial(_) | transport::Name::Node(_))) => {
            Ok(Name { program, device })
        }
        _ => Err(format!(
            "behind {PREFIX} stands a drive of this host: serial:NUMBER or /dev/nstN (taf drive scan shows what there is)"
        )),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_a_device_and_may_have_a_program() {
        assert_eq!(
            parse("serial:10WT"),
            Ok(Name {
                program: Path::new("itdt"),
                device: transport::Name::Serial("10WT")
            })
        );
        assert_eq!(
            parse("/opt/itdt/itdt@/dev/nst0"),
            Ok(Name {
                program: Path::new("/opt/itdt/itdt"),
                device: transport::Name::Node(Path::new("/dev/nst0"))
            })
        );
        assert!(parse("itdt@/dev/nst0").unwrap_err().contains("absolute"));
        for wrong in ["", "unix:/a", "10WT", "/opt/itdt@", "serial:"] {
            assert!(
                parse(wrong).unwrap_err().contains("serial:NUMBER"),
                "{wrong}"
            );
        }
    }
}
