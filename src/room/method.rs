//! Which method suits a room and its server, and why: what `auto` means. Pure.
//!
//! Facts behind the rules were measured on Synapse 1.163.2, or read in the code of other servers.
//! Left out: what a method does (`worker`).

use std::collections::BTreeSet;

use ruma::UserId;

use super::creation::{Preset, SYNAPSE};
use super::finding::MethodReason;
use super::intent::Intent;
use super::invitation::bridges;
use super::level::Power;
use super::policy;
use super::power::{OddityKind, Presence};
use super::state::{Membership, RoomState, is_encrypted};
use super::versions::has_creators;
use crate::model::{Method, MethodChoice, Review};

/// What is known of the server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Server<'a> {
    pub software: Option<&'a str>,
    /// The presets whose rooms it encrypts unasked.
    pub encrypts: &'a BTreeSet<Preset>,
}

/// What is known about the server's own upgrade of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerUpgrade {
    Works,
    /// It would break off.
    Fails,
}

/// Picks the method that was asked for, or the one that suits.
pub(crate) fn choose(
    choice: MethodChoice,
    review: Review,
    old: Option<&RoomState>,
    intent: &Intent,
    server: Server<'_>,
) -> (Method, MethodReason) {
    match (choice, review) {
        (MethodChoice::Adopt, _) => return (Method::Adopt, MethodReason::Asked),
        (MethodChoice::Staged, _) => return (Method::Staged, MethodReason::Asked),
        // Looking first is what was asked for last, and it takes the bot's own way.
        (_, Review::Wanted) => return (Method::Staged, MethodReason::Review),
        (MethodChoice::Server, Review::Skip) => return (Method::Server, MethodReason::Asked),
        (MethodChoice::Auto, Review::Skip) => {}
    }
    let Some(old) = old else {
        return (Method::Staged, MethodReason::OtherServer);
    };
    if policy::needs_staged(old, intent) {
        return (Method::Staged, MethodReason::PolicyRoom);
    }
    if takes_creators_back(old, intent) {
        return (Method::Staged, MethodReason::CreatorsTakeBack);
    }
    if server.software != Some(SYNAPSE) {
        return (Method::Staged, MethodReason::OtherServer);
    }
    if of_server(old) == ServerUpgrade::Fails || !unbannable(old, intent).is_empty() {
        return (Method::Staged, MethodReason::ServerWouldFail);
    }
    if server_encrypts(old, server.encrypts) {
        return (Method::Staged, MethodReason::ServerEncrypts);
    }
    match locals(old, intent) {
        0 => (Method::Staged, MethodReason::NobodyLocal),
        people => (Method::Server, MethodReason::KeepsSettings { people }),
    }
}

/// People on the bot's server whose tags and notification settings for the room do not come along;
/// `None` where they do, or nobody is concerned. Other servers move them after any tombstone.
pub(crate) fn leaves_settings(
    old: &RoomState,
    intent: &Intent,
    software: Option<&str>,
) -> Option<usize> {
    let stay = intent.method == Method::Staged && software == Some(SYNAPSE);
    stay.then(|| locals(old, intent))
        .filter(|people| *people > 0)
}

/// Whether the server's own upgrade encrypts a room that is not.
/// Source: Synapse 1.163.2, `clone_existing_room`, measured: by what it does with private rooms, whichever
/// the old one was.
pub(crate) fn server_encrypts(old: &RoomState, encrypts: &BTreeSet<Preset>) -> bool {
    encrypts.contains(&Preset::Private) && !is_encrypted(old)
}

/// Whether creators of the old room are none in a version without them.
pub(crate) fn takes_creators_back(old: &RoomState, intent: &Intent) -> bool {
    has_creators(&old.create().version) && !has_creators(&intent.version)
}

/// Banned users whom the server's own upgrade cannot ban anew, at whom it fails: it does so with the
/// bot's level, unless the bot stands above all levels.
pub(crate) fn unbannable(old: &RoomState, intent: &Intent) -> Vec<String> {
    if has_creators(&intent.version) {
        return Vec::new();
    }
    let power = old.power();
    let own = power.power(&intent.bot);
    let nobody = Power::Level(power.users_default);
    let of = |user: &str| <&UserId>::try_from(user).map_or(nobody, |user| power.power(user));
    let fails = |user: &String| of(user) >= own || own < Power::Level(power.ban);
    old.bans().into_keys().filter(fails).collect()
}

/// What becomes of the server's own upgrade, as far as power levels tell.
/// Source: Synapse 1.163.2, measured: 500 where there are none, or where one is no number.
fn of_server(old: &RoomState) -> ServerUpgrade {
    let power = old.power();
    let broken = power.presence == Presence::Missing
        || power
            .oddities
            .iter()
            .any(|oddity| oddity.kind != OddityKind::TextNumber);
    if broken {
        ServerUpgrade::Fails
    } else {
        ServerUpgrade::Works
    }
}

/// People on the bot's server who are in the room, without the bot.
fn locals(old: &RoomState, intent: &Intent) -> usize {
    let bot = &intent.bot;
    let ghosts = bridges(old, &intent.bots).ghosts;
    old.members(Membership::Join)
        .filter(|user| user.server_name() == bot.server_name())
        .filter(|user| user != bot && !ghosts.contains(user))
        .count()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::intent::tests::intent;
    use super::super::state::tests::room;
    use super::*;

    fn old(version: &str, levels: Option<Value>, members: &[&str]) -> RoomState {
        let join = || json!({"membership": "join"});
        let mut events = vec![(
            "m.room.create",
            "",
            "@maria:x",
            json!({"room_version": version}),
        )];
        events.extend(levels.map(|levels| ("m.room.power_levels", "", "@maria:x", levels)));
        events.extend(
            members
                .iter()
                .map(|user| ("m.room.member", *user, *user, join())),
        );
        room("!old:x", &events)
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn auto_weighs_the_room_and_the_server() {
        use MethodChoice::{Adopt, Auto, Server, Staged};
        let sound = || Some(json!({"users": {"@bot:x": 100}}));
        let text = Some(json!({"users": {"@bot:x": "100"}}));
        let junk = Some(json!({"ban": "never"}));
        let local = ["@bot:x", "@maria:x", "@far:y"];
        let alone = ["@bot:x", "@far:y"];
        let (synapse, other) = (Some("Synapse"), Some("Dendrite"));
        let people = MethodReason::KeepsSettings { people: 1 };
        for (choice, review, from, to, levels, members, software, expected) in [
            (
                Auto,
                Review::Skip,
                "10",
                "12",
                sound(),
                &local[..],
                synapse,
                (Method::Server, people),
            ),
            (
                Auto,
                Review::Skip,
                "5",
                "12",
                text,
                &local,
                synapse,
                (Method::Server, people),
            ),
            (
                Auto,
                Review::Skip,
                "10",
                "12",
                sound(),
                &alone,
                synapse,
                (Method::Staged, MethodReason::NobodyLocal),
            ),
            (
                Auto,
                Review::Skip,
                "10",
                "12",
                sound(),
                &local,
                other,
                (Method::Staged, MethodReason::OtherServer),
            ),
            (
                Auto,
                Review::Skip,
                "10",
                "12",
                sound(),
                &local,
                None,
                (Method::Staged, MethodReason::OtherServer),
            ),
            (
                Auto,
                Review::Skip,
                "12",
                "11",
                sound(),
                &local,
                synapse,
                (Method::Staged, MethodReason::CreatorsTakeBack),
            ),
            (
                Auto,
                Review::Skip,
                "12",
                "12",
                sound(),
                &local,
                synapse,
                (Method::Server, people),
            ),
            (
                Auto,
                Review::Skip,
                "10",
                "12",
                junk,
                &local,
                synapse,
                (Method::Staged, MethodReason::ServerWouldFail),
            ),
            (
                Auto,
                Review::Skip,
                "10",
                "12",
                None,
                &local,
                synapse,
                (Method::Staged, MethodReason::ServerWouldFail),
            ),
            (
                Auto,
                Review::Wanted,
                "10",
                "12",
                sound(),
                &local,
                synapse,
                (Method::Staged, MethodReason::Review),
            ),
            (
                Server,
                Review::Wanted,
                "10",
                "12",
                sound(),
                &local,
                synapse,
                (Method::Staged, MethodReason::Review),
            ),
            (
                Server,
                Review::Skip,
                "12",
                "11",
                sound(),
                &local,
                other,
                (Method::Server, MethodReason::Asked),
            ),
            (
                Staged,
                Review::Skip,
                "10",
                "12",
                sound(),
                &local,
                synapse,
                (Method::Staged, MethodReason::Asked),
            ),
            (
                Adopt,
                Review::Skip,
                "10",
                "12",
                sound(),
                &local,
                synapse,
                (Method::Adopt, MethodReason::Asked),
            ),
        ] {
            let old = old(from, levels, members);
            let encrypts = BTreeSet::new();
            let server = super::Server {
                software,
                encrypts: &encrypts,
            };
            let chosen = choose(choice, review, Some(&old), &intent(to), server);
            assert_eq!(
                chosen, expected,
                "{choice:?} {review:?} {from} to {to} {members:?} {software:?}"
            );
        }
    }

    /// Synapse moves them with its own upgrade only; other servers after any tombstone.
    #[test]
    fn settings_stay_with_the_old_room_where_people_of_this_server_are_in_it() {
        for (method, software, members, expected) in [
            (
                Method::Staged,
                Some("Synapse"),
                &["@bot:x", "@maria:x"][..],
                Some(1),
            ),
            (Method::Staged, Some("Synapse"), &["@bot:x", "@far:y"], None),
            (
                Method::Server,
                Some("Synapse"),
                &["@bot:x", "@maria:x"],
                None,
            ),
            (
                Method::Staged,
                Some("Dendrite"),
                &["@bot:x", "@maria:x"],
                None,
            ),
            (Method::Staged, None, &["@bot:x", "@maria:x"], None),
        ] {
            let old = old("10", None, members);
            let intent = Intent {
                method,
                ..intent("12")
            };
            let found = leaves_settings(&old, &intent, software);
            assert_eq!(found, expected, "{method:?} {software:?} {members:?}");
        }
    }

    /// A ban takes a level, and more power than who is banned has; a creator of the new room has both.
    #[test]
    fn who_cannot_be_banned_anew_is_found() {
        for (to, bot, level_of_spam, ban, expected) in [
            ("11", 50, 0, 50, false),
            ("11", 50, 49, 50, false),
            ("11", 50, 50, 50, true),
            ("11", 50, 60, 50, true),
            ("11", 50, 0, 51, true),
            ("12", 50, 60, 100, false),
        ] {
            let levels = json!({"users": {"@bot:x": bot, "@spam:x": level_of_spam}, "ban": ban});
            let mut old = old("10", Some(levels), &["@bot:x"]);
            let banned = super::super::state::content(json!({"membership": "ban"}));
            let place = super::super::state::slot("m.room.member", "@spam:x");
            old.put(place, &intent(to).bot, banned);
            let found = unbannable(&old, &intent(to));
            let named = ["@spam:x".to_owned()];
            assert_eq!(found == named, expected, "{to} {bot} {level_of_spam} {ban}");
            assert_eq!(found.is_empty(), !expected);
        }
    }

    /// Nobody can undo it. A room that is encrypted stays so anyway.
    #[test]
    fn auto_lets_no_server_encrypt_a_room() {
        let open = old("10", Some(json!({"users": {"@bot:x": 100}})), &["@maria:x"]);
        let mut sealed = open.clone();
        let algorithm = super::super::state::content(json!({"algorithm": "m.megolm.v1.aes-sha2"}));
        let encryption = super::super::state::slot("m.room.encryption", "");
        sealed.put(encryption, &intent("12").bot, algorithm);
        for (old, encrypts, expected) in [
            (&open, [Preset::Private].into(), Method::Staged),
            (&open, [Preset::Public].into(), Method::Server),
            (&sealed, [Preset::Private].into(), Method::Server),
        ] {
            let server = Server {
                software: Some(SYNAPSE),
                encrypts: &encrypts,
            };
            let (choice, review) = (MethodChoice::Auto, Review::Skip);
            let (chosen, _) = choose(choice, review, Some(old), &intent("12"), server);
            assert_eq!(chosen, expected, "{encrypts:?}");
        }
    }
}
