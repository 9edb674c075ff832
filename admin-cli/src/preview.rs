//! What a dry run found: what a job would do, and what it would wait for.

use taf_proto::v1::Preview;

use crate::failure::Failure;
use crate::human;
use crate::output::Output;

/// Writes it, a step a line.
pub fn show(what: &str, preview: Option<&Preview>, out: &mut Output) -> Result<(), Failure> {
    let none = Preview::default();
    let preview = preview.unwrap_or(&none);
    out.line(format!("{} would:", human::clean(what)))?;
    if !preview.waiting_for.is_empty() {
        out.line(format!("  wait: {}", human::clean(&preview.waiting_for)))?;
    }
    for step in &preview.steps {
        out.line(format!("  {}", human::clean(step)))?;
    }
    if preview.steps.is_empty() && preview.waiting_for.is_empty() {
        out.line("  do nothing: it is so already")?;
    }
    if !preview.lost_versions.is_empty() {
        out.line(format!(
            "  and {} would be lost:",
            human::counted(preview.lost_versions.len() as u64, "version", "versions")
        ))?;
        for version in &preview.lost_versions {
            out.line(format!("    {version}"))?;
        }
    }
    Ok(())
}

/// The same in a cell of a table.
pub fn short(preview: Option<&Preview>) -> String {
    match preview {
        None => String::new(),
        Some(preview) if preview.waiting_for.is_empty() => preview.steps.join("; "),
        Some(preview) => format!("wait: {}", preview.waiting_for),
    }
}
