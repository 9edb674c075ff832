//! How drives are named in configurations and on command lines.

use std::path::Path;

use taf_scsi::host::Device;
use taf_scsi::transport;

use crate::itdt;

/// A drive's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name<'a> {
    /// A path that carries SCSI commands: `serial:NUMBER`, `/dev/sgN`, `unix:PATH`.
    Scsi(transport::Name<'a>),
    /// `itdt:DEVICE` or `itdt:PROGRAM@DEVICE`: by IBM's `itdt` and the kernel's tape driver `st`.
    Itdt(itdt::Name<'a>),
}

impl<'a> Name<'a> {
    /// Reads a name, or says which there are.
    pub fn parse(name: &'a str) -> Result<Self, String> {
        match name.strip_prefix(itdt::PREFIX) {
            Some(rest) => itdt::parse(rest).map(Self::Itdt),
            None => transport::Name::parse(name).map(Self::Scsi),
        }
    }

    /// The drive, whatever the way to it.
    pub fn device(self) -> transport::Name<'a> {
        match self {
            Self::Scsi(device) => device,
            Self::Itdt(name) => name.device,
        }
    }
}

/// The name of a drive of this host for those who may not send it commands: by `itdt` and `st`, if `st` has it.
pub fn by_itdt(device: &Device) -> Option<String> {
    device.st_node.as_ref()?;
    Some(format!("{}{}", itdt::PREFIX, device.name()))
}

/// Whether this host has IBM's `itdt` where the shell would find it.
pub fn has_itdt() -> bool {
    itdt::is_there(Path::new(itdt::PROGRAM))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_path_or_another_way() {
        assert!(matches!(Name::parse("serial:A"), Ok(Name::Scsi(_))));
        assert!(matches!(Name::parse("itdt:serial:A"), Ok(Name::Itdt(_))));
        assert!(Name::parse("itdt:A").unwrap_err().contains("serial:NUMBER"));
        assert!(Name::parse("A").unwrap_err().contains("serial:NUMBER"));
    }
}
