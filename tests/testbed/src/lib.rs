//! The testbed of Roomlift's integration tests: a real Synapse ([`synapse`]), two of them that
//! federate ([`federation`]), users ([`user`]), a proxy that breaks requests on purpose ([`proxy`]) or
//! plays another server ([`play`]), and the bot as a process of its own ([`bot`]).
//!
//! Everything fails by panicking with what was being done and what the other side said: this is
//! test code, and the panic is its report. Nothing here knows what the bot does; that is left to
//! the tests.

pub mod bot;
pub mod checks;
pub mod community;
pub mod eventually;
pub mod federation;
pub mod play;
pub mod process;
pub mod proxy;
pub mod request;
pub mod synapse;
pub mod user;

mod venv;
mod version;

pub use bot::Bot;
pub use checks::{Check, Outcome};
pub use community::{Community, Entry, Listing, Nested, Presence, Remote, Wanted};
pub use eventually::eventually;
pub use federation::Federation;
pub use proxy::{Fault, Proxy, Rule};
pub use request::{Kind, Seen};
pub use synapse::{Synapse, SynapseOptions};
pub use user::{ApiError, Timeline, User, seg};
