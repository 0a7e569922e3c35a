//! Those who watch what happens on the server: people who answer, and the oracle.

use crate::world::{Event, World};

type OnEvent = Box<dyn FnMut(&mut World, &Event) -> Watching + Send>;
type OnAddresses = Box<dyn FnMut(&mut World) + Send>;

/// Whether somebody goes on watching.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watching {
    Still,
    NoMore,
}

/// Everybody who watches.
#[derive(Default)]
pub(crate) struct Watchers {
    events: Vec<OnEvent>,
    addresses: Vec<OnAddresses>,
}

impl Watchers {
    /// Watches for events.
    pub(crate) fn on_event(
        &mut self,
        watch: impl FnMut(&mut World, &Event) -> Watching + Send + 'static,
    ) {
        self.events.push(Box::new(watch));
    }

    /// Watches for addresses and listings that change.
    pub(crate) fn on_addresses(&mut self, watch: impl FnMut(&mut World) + Send + 'static) {
        self.addresses.push(Box::new(watch));
    }

    pub(crate) fn tell(&mut self, world: &mut World, event: &Event) {
        self.events
            .retain_mut(|watch| watch(world, event) == Watching::Still);
    }

    pub(crate) fn addresses_changed(&mut self, world: &mut World) {
        for watch in &mut self.addresses {
            watch(world);
        }
    }

    pub(crate) fn extend(&mut self, others: Self) {
        self.events.extend(others.events);
        self.addresses.extend(others.addresses);
    }
}
