//! `taf source import-rules`: the patterns of the program before TAF, as rules.

use std::path::PathBuf;

use serde_json::json;
use taf_proto::selection::{self, fnmatch};

use crate::failure::{Exit, Failure};
use crate::human::clean;
use crate::output::{Output, say};

/// Turn exclude patterns of the former TAF (Python's fnmatch) into rules
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Rules go to standard output, what may surprise to standard error. Needs no controller.

Examples:
  taf source import-rules '*.tmp' '*/cache' '/srv/scratch/*' > rules
  taf source create home --agent files1 /home --rules-from rules"
)]
pub struct Import {
    /// Patterns
    #[arg(value_name = "PATTERN", required_unless_present = "from")]
    patterns: Vec<String>,
    /// Read patterns from a file, one a line
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
}

impl Import {
    pub(super) fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let mut patterns = Vec::new();
        if let Some(file) = &self.from {
            let text = std::fs::read_to_string(file).map_err(|error| {
                Failure::usage(
                    format!("the patterns in {} can't be read: {error}", file.display()),
                    "name a file of text with a pattern on each line",
                )
            })?;
            patterns.extend(text.lines().map(str::to_owned));
        }
        patterns.extend(self.patterns);
        patterns.retain(|pattern| !pattern.is_empty());
        let mut imported = Vec::new();
        for pattern in patterns {
            let read = fnmatch::import(&pattern);
            let rule = read.rule.as_ref().map(selection::show);
            imported.push((pattern, rule, read.warnings));
        }
        if out.json() {
            let rules: Vec<_> = imported
                .iter()
                .map(|(pattern, rule, warnings)| {
                    json!({"pattern": pattern, "rule": rule, "warnings": warnings})
                })
                .collect();
            out.document(&json!({ "rules": rules }))?;
            return Ok(Exit::Done);
        }
        for (pattern, rule, warnings) in &imported {
            for warning in warnings {
                say(format!("{pattern}: {warning}"));
            }
            if let Some(rule) = rule {
                out.line(clean(rule))?;
            }
        }
        Ok(Exit::Done)
    }
}
