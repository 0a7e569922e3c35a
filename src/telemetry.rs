//! Logging: a line per event on standard error, as text or JSON. Left out: metrics.

use std::fmt;
use std::io::IsTerminal;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::{LookupSpan, Scope};

/// What the SDK says below a warning is of no use to an operator.
const QUIET: [&str; 6] = [
    "matrix_sdk=warn",
    // Without a backup of its keys, which is the operator's choice, one line for every sync.
    "matrix_sdk_crypto::backups=error",
    "matrix_sdk::http_client=off",
    "matrix_sdk_base=warn",
    "matrix_sdk_crypto=warn",
    "hyper=warn",
];

/// How a line of the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// An object of JSON, for programs that collect logs.
    Json,
}

/// Starts logging with the directives of the configuration. They were checked there.
pub fn start(directives: &str, format: LogFormat) {
    let mut filter = EnvFilter::builder().parse_lossy(directives);
    // A target that the operator named is left as they want it.
    for quiet in QUIET {
        let target = quiet.split('=').next().unwrap_or(quiet);
        if !directives.contains(target)
            && let Ok(directive) = quiet.parse()
        {
            filter = filter.add_directive(directive);
        }
    }
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A second start in one process (tests) keeps the first.
    let _ = match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.with_ansi(false).event_format(JsonLine).try_init(),
    };
}

/// An event as one object: what was said, when, how serious, by which module, within which spans, and
/// the event's own fields beside them.
///
/// Written here rather than by a feature of tracing-subscriber: that one changes how tracing itself
/// is built, and with it everything.
struct JsonLine;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Line::default();
        event.record(&mut line);
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let spans = context.event_scope().into_iter().flat_map(Scope::from_root);
        let spans = spans.map(|span| {
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<N>>();
            let fields = fields.map_or("", |fields| fields.fields.as_str());
            Value::from(format!("{}{{{fields}}}", span.name()))
        });
        let metadata = event.metadata();
        line.0.insert("timestamp".to_owned(), timestamp.into());
        line.0
            .insert("level".to_owned(), metadata.level().as_str().into());
        line.0.insert("target".to_owned(), metadata.target().into());
        line.0.insert("spans".to_owned(), spans.collect());
        writeln!(writer, "{}", Value::Object(line.0))
    }
}

/// The fields of an event.
#[derive(Default)]
struct Line(Map<String, Value>);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0
            .insert(field.name().to_owned(), format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.0.insert(field.name().to_owned(), chain(value).into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        let number = u64::try_from(value).map_or_else(|_| value.to_string().into(), Value::from);
        self.0.insert(field.name().to_owned(), number);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

/// An error with all that caused it, in one line.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
