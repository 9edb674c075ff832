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

#[cfg(test)]
#[allow(clippy::unwrap_used, missing_docs)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_names_the_process_and_control_characters_do_not_pass() {
        for json in [false, true] {
            let kept = Kept::default();
            let writer = kept.clone();
            let base = tracing_subscriber::fmt().with_writer(move || writer.clone());
            let name = "worker drive0";
            let log = || tracing::info!(file = ?"a\n\u{1b}[31m", "a \u{1b}[31m message");
            if json {
                let inner = tracing_subscriber::fmt::format().json().flatten_event(true);
                let format = Named { name, json, inner };
                let subscriber = base.json().event_format(format).finish();
                tracing::subscriber::with_default(subscriber, log);
            } else {
                let inner = tracing_subscriber::fmt::format().with_target(false);
                let format = Named { name, json, inner };
                let subscriber = base.with_ansi(false).event_format(format).finish();
                tracing::subscriber::with_default(subscriber, log);
            }
            let line = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
            let begin = if json {
                "{\"process\":\"worker drive0\",\""
            } else {
                "worker drive0: "
            };
            assert!(line.starts_with(begin), "{line:?}");
            assert!(!json || line.ends_with("}\n"), "{line:?}");
            assert_eq!(line.matches('\n').count(), 1, "{line:?}");
            assert!(!line.contains('\u{1b}'), "{line:?}");
        }
    }
}
