//! Which requests the proxy breaks, and how.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::request::{Kind, Seen};

/// Which requests a rule is about.
pub type Condition = Arc<dyn Fn(&Seen) -> bool + Send + Sync>;
/// Something to do when a request comes. May block: it runs on a thread of its own.
pub type Action = Arc<dyn Fn() + Send + Sync>;
/// Makes another answer of the homeserver's. A body that is not JSON comes as `null`.
pub type Mapping = Arc<dyn Fn(u16, Value) -> (u16, Value) + Send + Sync>;

/// What to do to a request.
#[derive(Clone)]
pub enum Fault {
    /// Answer without forwarding.
    Answer {
        /// The status.
        status: u16,
        /// Headers besides the body's.
        headers: Vec<(String, String)>,
        /// The body.
        body: Value,
    },
    /// Forward, wait for the answer, then cut the connection instead of passing it on.
    LoseAnswer,
    /// Forward, wait for the answer, then give this one.
    AnswerInstead {
        /// The status.
        status: u16,
        /// The body.
        body: Value,
    },
    /// Cut the connection without forwarding.
    Reset,
    /// Wait, then forward.
    Delay(Duration),
    /// Run the action, then cut the connection without forwarding.
    Before(Action),
    /// Forward, wait for the answer, run the action, then cut the connection.
    After(Action),
    /// Forward, and give the answer this function makes of the homeserver's.
    Custom(Mapping),
}

impl Fault {
    /// Answers with that status and body.
    #[must_use]
    pub fn answer(status: u16, body: Value) -> Self {
        Self::Answer {
            status,
            headers: Vec::new(),
            body,
        }
    }

    /// Answers with that status and a Matrix error.
    #[must_use]
    pub fn error(status: u16, errcode: &str) -> Self {
        Self::answer(
            status,
            json!({ "errcode": errcode, "error": "made up by the testbed" }),
        )
    }

    /// Answers that there have been too many requests, in the body and in the header.
    #[must_use]
    pub fn too_many_requests(retry_after: Duration) -> Self {
        // The header knows whole seconds only.
        let seconds = retry_after.as_millis().div_ceil(1000);
        Self::Answer {
            status: StatusCode::TOO_MANY_REQUESTS.as_u16(),
            headers: vec![("retry-after".into(), seconds.to_string())],
            body: json!({
                "errcode": "M_LIMIT_EXCEEDED",
                "error": "Too Many Requests",
                "retry_after_ms": u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX),
            }),
        }
    }

    /// [`Fault::Before`] of a closure.
    #[must_use]
    pub fn before(action: impl Fn() + Send + Sync + 'static) -> Self {
        Self::Before(Arc::new(action))
    }

    /// [`Fault::After`] of a closure.
    #[must_use]
    pub fn after(action: impl Fn() + Send + Sync + 'static) -> Self {
        Self::After(Arc::new(action))
    }

    /// [`Fault::Custom`] of a closure.
    #[must_use]
    pub fn custom(map: impl Fn(u16, Value) -> (u16, Value) + Send + Sync + 'static) -> Self {
        Self::Custom(Arc::new(map))
    }
}

/// Which requests to break, and how.
#[derive(Clone)]
pub struct Rule {
    /// Which requests this is about.
    pub when: Condition,
    /// How many of them to let pass first.
    pub skip: usize,
    /// How many to break then.
    pub times: usize,
    /// What to do to those.
    pub fault: Fault,
}

impl Rule {
    /// Breaks the first request `when` is true of.
    #[must_use]
    pub fn new(when: impl Fn(&Seen) -> bool + Send + Sync + 'static, fault: Fault) -> Self {
        Self {
            when: Arc::new(when),
            skip: 0,
            times: 1,
            fault,
        }
    }

    /// Breaks the first request of that kind.
    #[must_use]
    pub fn on(kind: Kind, fault: Fault) -> Self {
        Self::new(move |seen| seen.kind == kind, fault)
    }

    /// Lets that many pass first.
    #[must_use]
    pub fn skip(mut self, skip: usize) -> Self {
        self.skip = skip;
        self
    }

    /// Breaks that many.
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    /// Breaks all from there on.
    #[must_use]
    pub fn for_ever(self) -> Self {
        self.times(usize::MAX)
    }
}

/// Tells how often a rule was applied.
#[derive(Debug, Clone)]
pub struct Fired(pub(super) Arc<AtomicUsize>);

impl Fired {
    /// How many requests the rule broke up to now.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}
