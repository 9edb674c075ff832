//! Logging to standard error: lines for people, or JSON for collectors. `TAF_LOG` filters, as in
//! `info,taf_tape_agent=debug`. Secrets are kept out by their types, whose `Debug` hides them.

use std::fmt;
use std::io::IsTerminal as _;

use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The environment variable that filters.
pub const FILTER_VARIABLE: &str = "TAF_LOG";

/// Begins logging for the process `name` ("controller", "worker drive0"). Does nothing if something logs already.
pub fn init(name: &'static str, json: bool) {
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::Level::INFO.into())
        .with_env_var(FILTER_VARIABLE)
        .from_env_lossy();
    let base = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let set = if json {
        base.json()
            .event_format(Named {
                name,
                json: true,
                inner: tracing_subscriber::fmt::format().json().flatten_event(true),
            })
            .try_init()
    } else {
        base.with_ansi(std::io::stderr().is_terminal())
            .event_format(Named {
                name,
                json: false,
                inner: tracing_subscriber::fmt::format().with_target(false),
            })
            .try_init()
    };
    // Only tests begin twice.
    drop(set);
}

/// Puts the process before each line: several of them often share one terminal or journal.
struct Named<F> {
    name: &'static str,
    json: bool,
    inner: Format<F>,
}

impl<S, N, F> FormatEvent<S, N> for Named<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    Format<F>: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if !self.json {
            write!(writer, "{}: ", self.name)?;
            return self.inner.format_event(context, writer, event);
        }
        let mut line = String::new();
        self.inner
            .format_event(context, Writer::new(&mut line), event)?;
        let rest = line.strip_prefix('{').ok_or(fmt::Error)?;
        write!(writer, "{{\"process\":\"{}\",{rest}", self.name)
    }
}
