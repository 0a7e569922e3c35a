//! How many commands one person may send: an answer to each of hundreds would keep those of others, and the
//! work, waiting for the server's limits (P14).

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use ruma::{OwnedRoomId, OwnedUserId};

use crate::store::Received;

/// How long a command counts.
const WINDOW: SignedDuration = SignedDuration::from_mins(1);

/// Commands that are answered in that time: of who may only ask, and of who may command.
pub(super) const ASKING_MAX: usize = 10;
pub(super) const COMMANDING_MAX: usize = 60;

/// What becomes of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Taken,
    /// It is one too many, which is said.
    Refused,
    /// It is one too many, which was said already.
    Ignored,
}

/// Commands of the last minute. Lost without harm.
#[derive(Debug, Default)]
pub(crate) struct Asked(BTreeMap<(OwnedRoomId, OwnedUserId), Vec<Timestamp>>);

impl Asked {
    pub(super) fn count(&mut self, received: &Received, most: usize, now: Timestamp) -> Turn {
        // What lies in the future was counted before the clock was set back.
        let counts = |at: &Timestamp| *at <= now && now.duration_since(*at) < WINDOW;
        self.0.retain(|_, times| {
            times.retain(counts);
            !times.is_empty()
        });
        let of = (received.room_id.clone(), received.sender.clone());
        let times = self.0.entry(of).or_default();
        let before = times.len();
        if before <= most {
            times.push(now);
        }
        match before {
            before if before < most => Turn::Taken,
            before if before == most => Turn::Refused,
            _ => Turn::Ignored,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ReceivedKind;

    #[test]
    fn one_too_many_is_refused_once() {
        let by = |sender: &str| Received {
            event_id: "$e".try_into().unwrap(),
            room_id: "!r:x".try_into().unwrap(),
            sender: sender.try_into().unwrap(),
            sent_at: Timestamp::UNIX_EPOCH,
            kind: ReceivedKind::Invitation,
        };
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut asked = Asked::default();
        let mut count = |sender, second| asked.count(&by(sender), 2, at(second));
        assert_eq!(count("@a:x", 100), Turn::Taken);
        assert_eq!(count("@a:x", 101), Turn::Taken);
        assert_eq!(count("@a:x", 102), Turn::Refused);
        assert_eq!(count("@a:x", 103), Turn::Ignored);
        assert_eq!(count("@b:x", 103), Turn::Taken);
        assert_eq!(count("@a:x", 161), Turn::Taken);
    }
}
