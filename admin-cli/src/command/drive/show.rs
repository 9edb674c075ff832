//! A drive at length, and how data flow to it.

use taf_proto::v1::Drive;

use super::{remark, state};
use crate::command::health;
use crate::failure::Failure;
use crate::output::Output;
use crate::resource::id;
use crate::{flow, human};

/// Shows it, a line each.
pub(super) fn show(drive: &Drive, out: &mut Output) -> Result<(), Failure> {
    let mut lines = vec![
        ("drive", id(&drive.name).to_owned()),
        ("vendor", drive.vendor.clone()),
        ("product", drive.product.clone()),
        ("firmware", drive.revision.clone()),
        ("agent", id(&drive.agent).to_owned()),
        ("library", id(&drive.library).to_owned()),
        ("state", state(drive).to_owned()),
        ("health", health::short(drive.health.as_ref())),
        ("remark", remark(drive)),
        ("cartridge", drive.barcode.clone()),
        ("job", id(&drive.job).to_owned()),
        ("phase", drive.phase.clone()),
    ];
    if let Some(flow) = &drive.flow {
        lines.extend(flow::lines(flow));
    }
    for (key, value) in lines {
        if !value.is_empty() {
            out.line(format!("{key:<12} {}", human::clean(&value)))?;
        }
    }
    for source in &drive.sources {
        let mut parts = vec![format!("job {}", id(&source.job)), source.phase.clone()];
        parts.extend(source.flow.iter().flat_map(flow::short));
        parts.retain(|part| !part.is_empty());
        out.line(format!(
            "{:<12} {}",
            "source",
            human::clean(&parts.join(", "))
        ))?;
    }
    Ok(())
}
