//! Two real Synapses that federate over the loopback interface.
//!
//! Leaves out name resolution and certificates that are checked: a server's name holds its port, and
//! any certificate will do.

use tokio::sync::OnceCell;

use crate::user::seg;
use crate::{Synapse, SynapseOptions};

/// Two servers that have seen each other.
#[derive(Debug)]
pub struct Federation {
    /// One of them, by custom the bot's.
    pub a: Synapse,
    /// The other.
    pub b: Synapse,
}

impl Federation {
    /// The pair all tests of this process share, started by the first that asks. A test that takes
    /// a server down, or sets limits, starts a pair of its own.
    pub async fn pair() -> &'static Self {
        static PAIR: OnceCell<Federation> = OnceCell::const_new();
        let plain = SynapseOptions::default;
        PAIR.get_or_init(|| Self::start(plain(), plain())).await
    }

    /// Starts two servers and waits until each has answered the other.
    pub async fn start(a: SynapseOptions, b: SynapseOptions) -> Self {
        let (a, b) = tokio::join!(Synapse::start(a.federated()), Synapse::start(b.federated()));
        let pair = Self { a, b };
        pair.meet().await;
        pair
    }

    /// Has each server ask the other something, which is signed. A server that was away is told so
    /// that it is back: what the other has kept for it, it sends now.
    pub async fn meet(&self) {
        for (asking, asked) in [(&self.a, &self.b), (&self.b, &self.a)] {
            let user = asking.register("scout").await;
            let path = format!("publicRooms?limit=1&server={}", seg(&asked.server_name()));
            if let Err(e) = user.call("GET", &path, None).await {
                panic!(
                    "{} got no answer from {}: {e}\n{}\n{}",
                    asking.server_name(),
                    asked.server_name(),
                    asking.log_tail(),
                    asked.log_tail()
                );
            }
        }
    }
}
