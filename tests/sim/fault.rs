//! What goes wrong with requests on their way, and where the bot is killed.

use std::fmt::{self, Display};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::world::World;

/// Kinds of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Endpoint {
    RoomVersions,
    Profile,
    State,
    StateEvent,
    Members,
    PutState,
    Send,
    Redact,
    Event,
    CreateRoom,
    Upload,
    Invite,
    Kick,
    Leave,
    Ban,
    Join,
    JoinedRooms,
    Resolve,
    LocalAliases,
    CreateAlias,
    DeleteAlias,
    Listing,
    SetListing,
    ListedElsewhere,
    Software,
    Facts,
    Features,
    Encryption,
    Upgrade,
    /// A sync with something to tell.
    Sync,
    /// A sync with nothing to tell.
    Poll,
    Messages,
    SetAccountData,
}

impl Endpoint {
    /// Whether it changes anything on the server.
    pub(crate) fn is_write(self) -> bool {
        matches!(
            self,
            Self::PutState
                | Self::Send
                | Self::Redact
                | Self::CreateRoom
                | Self::Upload
                | Self::Invite
                | Self::Kick
                | Self::Leave
                | Self::Ban
                | Self::Join
                | Self::CreateAlias
                | Self::DeleteAlias
                | Self::SetListing
                | Self::Upgrade
                | Self::SetAccountData
        )
    }

    /// Whether a kill around it may make a difference: it writes, or the device's library stores something.
    pub(crate) fn has_effect(self) -> bool {
        self.is_write() || self == Self::Sync
    }
}

/// A request that is about to leave.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) endpoint: Endpoint,
    /// The room or address that it is about, or nothing.
    pub(crate) about: String,
    /// Event type, state key, user: whatever else tells it apart.
    pub(crate) detail: String,
}

impl Request {
    pub(crate) fn new(endpoint: Endpoint, about: impl Display, detail: impl Display) -> Self {
        Self {
            endpoint,
            about: about.to_string(),
            detail: detail.to_string(),
        }
    }
}

impl Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} {}", self.endpoint, self.about, self.detail)
    }
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The connection is cut before the request arrives.
    Reset,
    /// The work is done, and the answer is lost.
    LoseAnswer,
    /// Something else answers with this status, and nothing is done: a proxy's error page.
    Page(u16),
    /// The same after the work was done.
    PageAfter(u16),
    /// A proxy gives up after the first time; the server does the work after the second, counted from
    /// the first.
    Late(Duration, Duration),
    /// Too many requests; perhaps it says for how long.
    TooMany(Option<Duration>),
    /// The server says no.
    Refuse(u16, &'static str),
    /// Everything takes this much longer.
    Delay(Duration),
}

type Matches = Box<dyn Fn(&Request) -> bool + Send>;
type Act = Box<dyn FnMut(&mut World) + Send>;

/// A fault for some requests.
pub(crate) struct Rule {
    matches: Matches,
    skip: usize,
    times: usize,
    fault: Option<Fault>,
    before: Option<Act>,
    fired: Arc<AtomicU64>,
}

/// How often a rule applied.
#[derive(Debug, Clone)]
pub(crate) struct Fired(Arc<AtomicU64>);

impl Fired {
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Rule {
    /// A fault for the first request of a kind.
    pub(crate) fn on(endpoint: Endpoint, fault: Fault) -> Self {
        Self::when(move |request| request.endpoint == endpoint, fault)
    }

    /// A fault for the first request that matches.
    pub(crate) fn when(matches: impl Fn(&Request) -> bool + Send + 'static, fault: Fault) -> Self {
        Self {
            matches: Box::new(matches),
            skip: 0,
            times: 1,
            fault: Some(fault),
            before: None,
            fired: Arc::default(),
        }
    }

    /// Somebody acts just before the first request that matches has its effect.
    pub(crate) fn before(
        matches: impl Fn(&Request) -> bool + Send + 'static,
        act: impl FnMut(&mut World) + Send + 'static,
    ) -> Self {
        Self {
            fault: None,
            before: Some(Box::new(act)),
            ..Self::when(matches, Fault::Reset)
        }
    }

    /// Lets some pass first.
    pub(crate) fn skip(self, skip: usize) -> Self {
        Self { skip, ..self }
    }

    /// Applies so often.
    pub(crate) fn times(self, times: usize) -> Self {
        Self { times, ..self }
    }

    /// Applies always.
    pub(crate) fn always(self) -> Self {
        self.times(usize::MAX)
    }

    pub(crate) fn fired(&self) -> Fired {
        Fired(Arc::clone(&self.fired))
    }
}

/// All that goes wrong.
#[derive(Default)]
pub(crate) struct Faults {
    rules: Vec<Rule>,
}

impl Faults {
    pub(crate) fn add(&mut self, rule: Rule) -> Fired {
        let fired = rule.fired();
        self.rules.push(rule);
        fired
    }

    /// What goes wrong with a request; people act first.
    pub(crate) fn of(&mut self, request: &Request, world: &mut World) -> Option<Fault> {
        for rule in &mut self.rules {
            if rule.times == 0 || !(rule.matches)(request) {
                continue;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            rule.times -= 1;
            rule.fired.fetch_add(1, Ordering::SeqCst);
            if let Some(act) = &mut rule.before {
                act(world);
            }
            if rule.fault.is_some() {
                return rule.fault.clone();
            }
        }
        None
    }
}

/// An instant at which the bot is killed; requests with an effect and commits are counted from 0, over
/// all its lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kill {
    BeforeRequest(u64),
    AfterRequest(u64),
    BeforeCommit(u64),
    AfterCommit(u64),
}
