//! Numbers for Prometheus: counted where things happen, in one registry for the process, as logging
//! has one subscriber.
//!
//! Labels come from fixed sets of words, never from rooms or people. Left out: serving them, and
//! looking into the database for what is a level rather than an event (`health`).

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Upper ends of the buckets of a step's duration, in seconds: from a step with nothing to do to the
/// five minutes that an upgrade may take.
const STEP_SECONDS: [f64; 9] = [0.1, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 150.0, 300.0];

/// Stands for "no sync yet".
const NEVER: i64 = i64::MIN;

static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum RequestKind {
    Ban,
    /// Makes a room or an address.
    Create,
    /// Has the server delete a room.
    Delete,
    Invite,
    Join,
    Leave,
    /// Has the server lift limits.
    Lift,
    /// Lists rooms or addresses.
    List,
    /// Has the server make the bot admin of a room.
    Make,
    /// Reads state, or what the server is.
    Read,
    Redact,
    /// Removes somebody, or an address.
    Remove,
    Resolve,
    Search,
    Send,
    /// Changes state or the directory.
    Set,
    /// Asks for what is new.
    Sync,
    /// Has the server upgrade a room.
    Upgrade,
    Upload,
}

impl RequestKind {
    /// The name in metrics, and the verb in errors.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ban => "ban",
            Self::Create => "create",
            Self::Delete => "delete",
            Self::Invite => "invite",
            Self::Join => "join",
            Self::Leave => "leave",
            Self::Lift => "lift",
            Self::List => "list",
            Self::Make => "make",
            Self::Read => "read",
            Self::Redact => "redact",
            Self::Remove => "remove",
            Self::Resolve => "resolve",
            Self::Search => "search",
            Self::Send => "send",
            Self::Set => "set",
            Self::Sync => "sync",
            Self::Upgrade => "upgrade",
            Self::Upload => "upload",
        }
    }
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    /// The server did it.
    Ok,
    /// The server asked for a pause.
    RateLimited,
    /// The server said no.
    Refused,
    /// The account may not act now.
    AccountBlocked,
    /// No answer, or one that leaves open whether it was done.
    Uncertain,
    /// An answer that makes no sense.
    Unusable,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::RateLimited => "rate_limited",
            Self::Refused => "refused",
            Self::AccountBlocked => "account_blocked",
            Self::Uncertain => "uncertain",
            Self::Unusable => "unusable",
        }
    }
}

/// What is read at the moment of a scrape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Levels {
    /// Jobs by the name of their state.
    pub jobs: Vec<(String, i64)>,
    /// Messages that are not in their rooms yet.
    pub unsent: i64,
    /// How long ago the bot had heard everything; `None` if it never has.
    pub sync_age: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabels {
    step: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WaitLabels {
    reason: &'static str,
}

struct Metrics {
    /// Locked for a scrape, so that two at a time do not mix their levels.
    registry: Mutex<Registry>,
    jobs: Family<StateLabels, Gauge>,
    unsent: Gauge,
    sync_age: Gauge<f64, AtomicU64>,
    requests: Family<RequestLabels, Counter>,
    steps: Family<StepLabels, Histogram>,
    waits: Family<WaitLabels, Counter>,
    synced_at: AtomicI64,
}

impl Metrics {
    fn new() -> Self {
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix("roomlift")),
            jobs: Family::default(),
            unsent: Gauge::default(),
            sync_age: Gauge::default(),
            requests: Family::default(),
            steps: Family::new_with_constructor(step_histogram as fn() -> Histogram),
            waits: Family::default(),
            synced_at: AtomicI64::new(NEVER),
        };
        metrics.register();
        metrics
    }

    fn register(&self) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.register("jobs", "Jobs by state", self.jobs.clone());
        registry.register(
            "outbox_depth",
            "Messages that are not in their rooms yet",
            self.unsent.clone(),
        );
        registry.register(
            "sync_age_seconds",
            "How long ago the bot had heard everything; infinite before the first time",
            self.sync_age.clone(),
        );
        registry.register(
            "requests",
            "Requests to the homeserver, by kind and by what became of them",
            self.requests.clone(),
        );
        registry.register(
            "step_seconds",
            "How long steps were at work at a stretch, without their waits",
            self.steps.clone(),
        );
        registry.register(
            "waits",
            "Waits of jobs that began, by what was waited for",
            self.waits.clone(),
        );
    }
}

fn step_histogram() -> Histogram {
    Histogram::new(STEP_SECONDS)
}

/// Counts a request to the homeserver.
pub(crate) fn request(kind: RequestKind, outcome: Outcome) {
    let labels = RequestLabels {
        kind: kind.name(),
        outcome: outcome.name(),
    };
    METRICS.requests.get_or_create(&labels).inc();
}

/// Notes how long a step was at work.
pub(crate) fn step(step: &'static str, took: Duration) {
    let steps = METRICS.steps.get_or_create(&StepLabels { step });
    steps.observe(took.as_secs_f64());
}

pub(crate) fn wait(reason: &'static str) {
    METRICS.waits.get_or_create(&WaitLabels { reason }).inc();
}

/// Notes that the bot has heard everything up to now.
pub(crate) fn synced(now: Timestamp) {
    METRICS
        .synced_at
        .store(now.as_millisecond(), Ordering::Relaxed);
}

/// How long ago the bot had heard everything; `None` if it never has.
pub(crate) fn sync_age(now: Timestamp) -> Option<Duration> {
    let at = METRICS.synced_at.load(Ordering::Relaxed);
    let age = now.as_millisecond().checked_sub(at)?;
    // A clock that was set back makes it no younger than now.
    (at != NEVER).then(|| Duration::from_millis(age.try_into().unwrap_or_default()))
}

/// Everything as text, in the format that Prometheus reads.
///
/// # Errors
/// When a value cannot be written as text.
pub(crate) fn render(levels: &Levels) -> Result<String, fmt::Error> {
    let registry = METRICS.registry.lock();
    let registry = registry.unwrap_or_else(PoisonError::into_inner);
    METRICS.jobs.clear();
    for (state, count) in &levels.jobs {
        let state = state.clone();
        METRICS
            .jobs
            .get_or_create(&StateLabels { state })
            .set(*count);
    }
    METRICS.unsent.set(levels.unsent);
    let age = levels
        .sync_age
        .map_or(f64::INFINITY, |age| age.as_secs_f64());
    METRICS.sync_age.set(age);
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The only test of the registry, which is one for the process.
    #[test]
    fn what_is_counted_is_told() {
        request(RequestKind::Invite, Outcome::Ok);
        request(RequestKind::Invite, Outcome::Refused);
        step("aliases", Duration::from_secs(2));
        wait("rate_limit");
        let levels = Levels {
            jobs: vec![("running".to_owned(), 2)],
            unsent: 3,
            sync_age: None,
        };
        let text = render(&levels).unwrap();
        for line in [
            r#"roomlift_requests_total{kind="invite",outcome="ok"} 1"#,
            r#"roomlift_requests_total{kind="invite",outcome="refused"} 1"#,
            r#"roomlift_step_seconds_bucket{le="2.5",step="aliases"} 1"#,
            r#"roomlift_waits_total{reason="rate_limit"} 1"#,
            r#"roomlift_jobs{state="running"} 2"#,
            "roomlift_outbox_depth 3",
            "roomlift_sync_age_seconds inf",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} in:\n{text}");
        }
        // A state that no job is in any more is not told again.
        let levels = Levels {
            jobs: vec![],
            sync_age: Some(Duration::from_millis(1500)),
            ..levels
        };
        let text = render(&levels).unwrap();
        assert!(!text.contains("state="), "{text}");
        assert!(text.contains("roomlift_sync_age_seconds 1.5\n"), "{text}");
    }

    #[test]
    fn the_age_of_a_sync_is_never_negative() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(sync_age(at(100)), None);
        synced(at(100));
        assert_eq!(sync_age(at(160)), Some(Duration::from_mins(1)));
        assert_eq!(sync_age(at(40)), Some(Duration::ZERO));
    }
}
