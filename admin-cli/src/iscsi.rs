//! What `taf` knows of iSCSI when it opens a device of that kind itself.

use std::path::Path;

use taf_peer::secret_file;
use taf_scsi::transport::iscsi::chap::Secrets;
use taf_scsi::transport::iscsi::{Settings, configure};

use crate::failure::Failure;

/// The file of secrets: lines `USER SECRET` or `USER SECRET TARGET-USER TARGET-SECRET`, for its owner alone.
pub const SECRETS: &str = "TAF_ISCSI_SECRETS";
/// The name of this host as initiator, if it is not the one that is made of the machine's id.
pub const INITIATOR: &str = "TAF_ISCSI_INITIATOR";
/// Bytes of the longest file of secrets.
const LIMIT: u64 = 64 << 10;

/// Takes over what the environment says.
pub fn from_environment() -> Result<(), Failure> {
    let mut settings = Settings::default();
    if let Ok(name) = std::env::var(INITIATOR) {
        Settings::check_name(&name).map_err(|why| {
            Failure::new(
                "INVALID_ARGUMENT",
                why,
                format!("mend or unset {INITIATOR}"),
            )
        })?;
        settings.initiator = name;
    }
    if let Some(file) = std::env::var_os(SECRETS) {
        let wrong = |why: String| {
            let next = "a line each: USER SECRET, or USER SECRET TARGET-USER TARGET-SECRET";
            Failure::new("INVALID_ARGUMENT", format!("{SECRETS}: {why}"), next)
        };
        let text =
            secret_file::read(Path::new(&file), LIMIT).map_err(|error| wrong(error.to_string()))?;
        let text =
            std::str::from_utf8(&text).map_err(|_| wrong("the file holds no text".to_owned()))?;
        settings.secrets = Secrets::parse(text).map_err(wrong)?;
    }
    configure(settings);
    Ok(())
}
