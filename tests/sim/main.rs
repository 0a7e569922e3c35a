//! The simulation: the whole bot in one process against a simulated homeserver, in virtual time.
//!
//! See CONTRIBUTING.md, "The simulation".
#![expect(clippy::unwrap_used, reason = "in a test, an unwrap is an assertion")]

mod addresses;
mod answers;
mod away;
mod carried;
mod clock;
mod conformance;
mod fault;
mod growth;
mod isolated;
mod kills;
mod kinds;
mod known;
mod life;
mod limits;
mod meanwhile;
mod odd;
mod oracle;
mod paced;
mod place;
mod policy;
mod port;
mod said;
mod scenes;
mod sealed;
mod seeds;
mod sim;
mod story;
mod taken;
mod talk;
mod watch;
mod world;
