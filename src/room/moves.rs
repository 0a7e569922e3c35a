//! Who of the old room has come to the new one: from the members of both. Pure.
//!
//! Members are given as they are told by events, one at a time or all at once, so that a list that
//! was read once can be kept up. Left out: where the events come from, and what is done about those
//! who did not come.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use ruma::events::room::member::MembershipState;
use ruma::{OwnedServerName, OwnedUserId, UserId};
use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

/// What a member event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberEvent {
    /// Whom it is about.
    pub user: OwnedUserId,
    /// Who sent it.
    pub sender: OwnedUserId,
    /// What they are now.
    pub membership: MembershipState,
    /// What they were before, where the server tells.
    pub before: Option<MembershipState>,
    /// When, by the sender's server.
    pub at: Timestamp,
}

/// How somebody stands to one room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// In the room.
    Joined,
    /// Invited, and has not answered.
    Invited,
    /// Asks to be let in.
    Knocking,
    /// Was there, and left.
    Left,
    /// Said no to an invitation.
    Declined,
    /// Was sent away by somebody else, or their invitation was taken back.
    Removed,
    /// Must not enter.
    Banned,
}

/// What is known of somebody in one room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberRecord {
    /// How they stand to it.
    pub presence: Presence,
    /// When they came last, if they were ever seen there.
    pub joined_at: Option<Timestamp>,
}

/// Everybody that is known of in one room.
pub type Seats = BTreeMap<OwnedUserId, MemberRecord>;

impl MemberRecord {
    /// Somebody of whom it is only known that they are in the room.
    #[must_use]
    pub fn joined(at: Timestamp) -> Self {
        Self {
            presence: Presence::Joined,
            joined_at: Some(at),
        }
    }

    /// What is known after one more event. The clocks of other servers may be wrong: nobody comes
    /// later than `now`.
    #[must_use]
    pub fn after(known: Option<Self>, event: &MemberEvent, now: Timestamp) -> Self {
        let was = known.map(|seat| seat.presence);
        let presence = match &event.membership {
            MembershipState::Join => Presence::Joined,
            MembershipState::Invite => Presence::Invited,
            MembershipState::Knock => Presence::Knocking,
            MembershipState::Ban => Presence::Banned,
            _ if event.sender != event.user => Presence::Removed,
            _ if event.before == Some(MembershipState::Invite) => Presence::Declined,
            _ if event.before == Some(MembershipState::Join) => Presence::Left,
            // An event that does not say what was before: read in a list, perhaps once more.
            _ => match was {
                Some(Presence::Invited | Presence::Knocking) => Presence::Declined,
                Some(was @ (Presence::Declined | Presence::Removed)) => was,
                _ => Presence::Left,
            },
        };
        let came_before = known.and_then(|seat| seat.joined_at);
        let joined_at = match (presence, was) {
            // A new name or picture is a join, too.
            (Presence::Joined, Some(Presence::Joined)) => came_before.or(Some(event.at.min(now))),
            (Presence::Joined, _) => Some(event.at.min(now)),
            _ => came_before,
        };
        Self {
            presence,
            joined_at,
        }
    }
}

/// Where somebody of the old room is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whereabouts {
    /// In the new room, since then.
    Moved(Timestamp),
    /// In the old room, with an open invitation to the new one.
    Invited,
    /// In the old room, and nothing else is known.
    Waiting,
    /// In the old room, and said no to the invitation. Never invited again.
    Declined,
    /// In the old room, and their server does not know the new room's version.
    CannotFollow,
    /// Gone from both, or was in the new room and left.
    Left,
    /// Sent away from the new room. Never pinged, never invited again.
    Removed,
}

impl Whereabouts {
    /// Whether somebody is in the old room and could still come: they are pinged.
    #[must_use]
    pub fn is_straggler(self) -> bool {
        matches!(self, Self::Invited | Self::Waiting | Self::Declined)
    }
}

/// The people of the old room, and where they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moves {
    /// Everybody who was in the old room after the upgrade began, bots apart.
    pub people: BTreeMap<OwnedUserId, Whereabouts>,
}

/// How many there are of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// In the new room.
    pub moved: usize,
    /// Invited, and not there yet.
    pub invited: usize,
    /// In the old room, without an invitation.
    pub waiting: usize,
    /// In the old room, and said no.
    pub declined: usize,
    /// In the old room, and cannot come.
    pub cannot_follow: usize,
    /// Gone.
    pub left: usize,
    /// Sent away.
    pub removed: usize,
}

impl Tally {
    /// Those who could still come.
    #[must_use]
    pub fn stragglers(&self) -> usize {
        self.invited + self.waiting + self.declined
    }

    /// Those who came or could still come.
    #[must_use]
    pub fn expected(&self) -> usize {
        self.moved + self.stragglers()
    }

    /// Whether as large a part of them came. Of nobody, all did.
    #[must_use]
    pub fn has_moved(&self, share: f64) -> bool {
        // Rooms have fewer members than numbers that a float cannot tell apart.
        let part = |number: usize| u32::try_from(number).map_or(f64::MAX, f64::from);
        self.stragglers() == 0 || part(self.moved) >= share * part(self.expected())
    }
}

impl std::ops::Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            moved: self.moved + other.moved,
            invited: self.invited + other.invited,
            waiting: self.waiting + other.waiting,
            declined: self.declined + other.declined,
            cannot_follow: self.cannot_follow + other.cannot_follow,
            left: self.left + other.left,
            removed: self.removed + other.removed,
        }
    }
}

impl Moves {
    /// Those who are pinged.
    pub fn stragglers(&self) -> impl Iterator<Item = (&OwnedUserId, Whereabouts)> {
        self.people
            .iter()
            .map(|(user, at)| (user, *at))
            .filter(|(_, at)| at.is_straggler())
    }

    /// When those in the new room came, in order.
    #[must_use]
    pub fn arrivals(&self) -> Vec<Timestamp> {
        let mut arrivals: Vec<_> = self
            .people
            .values()
            .filter_map(|at| match at {
                Whereabouts::Moved(at) => Some(*at),
                _ => None,
            })
            .collect();
        arrivals.sort();
        arrivals
    }

    /// How many there are of each kind.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for at in self.people.values() {
            *match at {
                Whereabouts::Moved(_) => &mut tally.moved,
                Whereabouts::Invited => &mut tally.invited,
                Whereabouts::Waiting => &mut tally.waiting,
                Whereabouts::Declined => &mut tally.declined,
                Whereabouts::CannotFollow => &mut tally.cannot_follow,
                Whereabouts::Left => &mut tally.left,
                Whereabouts::Removed => &mut tally.removed,
            } += 1;
        }
        tally
    }
}

/// Where the people of the old room are. Bots, by their patterns and the one that asks, are none;
/// `incompatible` servers were found not to know the new room's version.
#[must_use]
pub fn moves(
    old: &Seats,
    new: &Seats,
    bot: &UserId,
    bots: &[String],
    incompatible: &BTreeSet<OwnedServerName>,
) -> Moves {
    let patterns: Vec<_> = bots.iter().map(|bot| WildMatch::new(bot)).collect();
    let is_bot =
        |user: &UserId| user == bot || patterns.iter().any(|bot| bot.matches(user.as_str()));
    let is_in = |seat: &MemberRecord| seat.presence == Presence::Joined;
    // Whoever is there refutes it for their server.
    let able: BTreeSet<_> = new
        .iter()
        .filter(|(_, seat)| is_in(seat))
        .map(|(user, _)| user.server_name())
        .collect();
    let people = old
        .iter()
        .filter(|(user, seat)| seat.joined_at.is_some() && !is_bot(user))
        .map(|(user, seat)| {
            let there = new.get(user);
            let presence = there.map(|seat| seat.presence);
            let server = user.server_name();
            let at = match presence {
                Some(Presence::Joined) => Whereabouts::Moved(
                    there
                        .and_then(|seat| seat.joined_at)
                        .unwrap_or(Timestamp::MIN),
                ),
                Some(Presence::Removed | Presence::Banned) => Whereabouts::Removed,
                Some(Presence::Left) => Whereabouts::Left,
                _ if !is_in(seat) => Whereabouts::Left,
                _ if incompatible.contains(server) && !able.contains(server) => {
                    Whereabouts::CannotFollow
                }
                Some(Presence::Invited) => Whereabouts::Invited,
                Some(Presence::Declined) => Whereabouts::Declined,
                Some(Presence::Knocking) | None => Whereabouts::Waiting,
            };
            (user.clone(), at)
        })
        .collect();
    Moves { people }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// `join`, `invite`, `leave` and so on by the user or, with a `!`, by somebody else.
    fn event(user: &str, words: &str, second: i64) -> MemberEvent {
        let (word, by_other) = match words.strip_suffix('!') {
            Some(word) => (word, true),
            None => (words, false),
        };
        MemberEvent {
            user: user.try_into().unwrap(),
            sender: if by_other { "@mod:x" } else { user }.try_into().unwrap(),
            membership: word.into(),
            before: None,
            at: at(second),
        }
    }

    fn seat(history: &[&str]) -> Option<MemberRecord> {
        let mut seat = None;
        for (second, words) in (1..).zip(history) {
            seat = Some(MemberRecord::after(
                seat,
                &event("@a:x", words, second),
                at(100),
            ));
        }
        seat
    }

    fn seats(user: &str, history: &[&str]) -> Seats {
        let user: OwnedUserId = user.try_into().unwrap();
        seat(history).map(|seat| (user, seat)).into_iter().collect()
    }

    #[test]
    fn where_people_are() {
        use Whereabouts::{Declined, Invited, Left, Moved, Removed, Waiting};
        let stay: &[&str] = &["join"];
        for (old, new, expected) in [
            (stay, &[][..], Waiting),
            (stay, &["join"][..], Moved(at(1))),
            (stay, &["invite!"][..], Invited),
            (stay, &["knock"][..], Waiting),
            (stay, &["invite!", "leave"][..], Declined),
            (stay, &["invite!", "leave", "leave"][..], Declined),
            (stay, &["invite!", "join"][..], Moved(at(2))),
            // A new name is no new arrival; coming back is.
            (stay, &["join", "join"][..], Moved(at(1))),
            (stay, &["join", "leave"][..], Left),
            (stay, &["join", "leave", "join"][..], Moved(at(3))),
            (stay, &["join", "leave!"][..], Removed),
            (stay, &["join", "leave!", "leave"][..], Removed),
            (stay, &["invite!", "leave!"][..], Removed),
            (stay, &["join", "ban!"][..], Removed),
            (stay, &["ban!", "leave!"][..], Removed),
            (stay, &["join", "leave!", "invite!"][..], Invited),
            (stay, &["join", "leave!", "join"][..], Moved(at(3))),
            // Gone from the old room: moved if they are in the new one, and otherwise gone.
            (&["join", "leave"], &["join"][..], Moved(at(1))),
            (&["join", "leave"], &[][..], Left),
            (&["join", "leave"], &["invite!"][..], Left),
            (&["join", "ban!"], &[][..], Left),
            (&["join", "leave", "join"], &[][..], Waiting),
        ] {
            let found = moves(
                &seats("@a:x", old),
                &seats("@a:x", new),
                "@bot:x".try_into().unwrap(),
                &[],
                &BTreeSet::new(),
            );
            let found: Vec<_> = found.people.values().copied().collect();
            assert_eq!(found, [expected], "{old:?} {new:?}");
        }
    }

    #[test]
    fn what_the_server_says_of_before_counts_more_than_what_was_known() {
        let mut declined = event("@a:x", "leave", 1);
        declined.before = Some(MembershipState::Invite);
        let left = MemberEvent {
            before: Some(MembershipState::Join),
            ..declined.clone()
        };
        let presence = |event| MemberRecord::after(seat(&["invite!"]), event, at(9)).presence;
        assert_eq!(presence(&declined), Presence::Declined);
        assert_eq!(presence(&left), Presence::Left);
    }

    #[test]
    fn bots_and_people_who_never_came_do_not_count() {
        let mut old = Seats::new();
        for user in ["@a:x", "@bot:x", "@draupnir:y", "@_irc_nick:z"] {
            old.extend(seats(user, &["join"]));
        }
        old.extend(seats("@spam:x", &["ban!"]));
        old.extend(seats("@asked:x", &["invite!"]));
        let found = moves(
            &old,
            &Seats::new(),
            "@bot:x".try_into().unwrap(),
            &["@draupnir:*".to_owned(), "@_*:*".to_owned()],
            &BTreeSet::new(),
        );
        let users: Vec<_> = found.people.keys().map(|user| user.as_str()).collect();
        assert_eq!(users, ["@a:x"]);
    }

    #[test]
    fn a_server_that_does_not_know_the_version_is_believed_until_somebody_of_it_comes() {
        let mut old = Seats::new();
        for user in ["@a:old", "@b:old", "@c:new"] {
            old.extend(seats(user, &["join"]));
        }
        let incompatible: BTreeSet<OwnedServerName> = ["old".try_into().unwrap()].into();
        let at = |new: &Seats| {
            let found = moves(&old, new, "@bot:x".try_into().unwrap(), &[], &incompatible);
            (found.tally().cannot_follow, found.tally().stragglers())
        };
        assert_eq!(at(&Seats::new()), (2, 1));
        assert_eq!(at(&seats("@a:old", &["join"])), (0, 2));
    }

    #[test]
    fn the_share_counts_those_who_could_come() {
        let tally = Tally {
            moved: 19,
            waiting: 1,
            left: 50,
            removed: 3,
            cannot_follow: 9,
            ..Tally::default()
        };
        assert!(tally.has_moved(0.95));
        assert!(!tally.has_moved(0.96));
        assert!(Tally::default().has_moved(1.0));
        let waiting = Tally {
            moved: 9,
            waiting: 1,
            ..Tally::default()
        };
        assert!(!waiting.has_moved(1.0));
    }

    #[test]
    fn ten_thousand_members_are_told_apart_in_no_time() {
        let user = |n: usize| -> OwnedUserId { format!("@u{n}:x").try_into().unwrap() };
        let old: Seats = (0..10_000)
            .map(|n| (user(n), MemberRecord::joined(at(1))))
            .collect();
        let new: Seats = (0..9_000)
            .map(|n| (user(n), MemberRecord::joined(at(2))))
            .collect();
        let found = moves(
            &old,
            &new,
            "@bot:x".try_into().unwrap(),
            &[],
            &BTreeSet::new(),
        );
        assert_eq!((found.tally().moved, found.tally().waiting), (9_000, 1_000));
        assert_eq!(found.arrivals().len(), 9_000);
    }

    proptest! {
        /// A clock elsewhere that is wrong puts nobody into the future.
        #[test]
        fn nobody_comes_later_than_now(history in proptest::collection::vec(
            prop_oneof!["join", "leave", "invite!", "leave!", "ban!", "knock"], 1..9), late in -50_i64..50) {
            let mut seat = None;
            for (second, words) in (1..).zip(&history) {
                seat = Some(MemberRecord::after(seat, &event("@a:x", words, second * late), at(20)));
            }
            if let Some(joined) = seat.and_then(|seat| seat.joined_at) {
                prop_assert!(joined <= at(20));
            }
        }
    }
}
