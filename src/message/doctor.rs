//! How the bot itself is: what is wrong first, and what to do about it.

use jiff::SignedDuration;
use ruma::{RoomId, UserId};

use super::doc::lines;
use super::doc::{Doc, Span, own, person, room};
use super::{count, duration};
use crate::checkup::{Backup, Checkup, Complaint, Identity, Limits};
use crate::model::Text;
use crate::room::level::Allowance;

/// Rooms with too little power that are listed.
const ROOMS_SHOWN_MAX: usize = 20;

const BYTES_PER_KIB: u64 = 1024;

/// Everything that was found.
pub(crate) fn report(found: &Checkup) -> Text {
    let complaints = found.complaints();
    // What is only not known is no problem.
    let (unknown, problems): (Vec<_>, Vec<_>) = complaints
        .iter()
        .partition(|complaint| matches!(complaint, Complaint::LimitsUnknown));
    let weak = weak_rooms(found);
    let mut doc = Doc::new();
    if problems.is_empty() && weak.is_empty() {
        doc = doc.heading("All good");
    }
    if !problems.is_empty() {
        doc = doc.heading("Problems, worst first");
        for complaint in problems {
            doc = doc.item(&sentence(complaint, found));
        }
    }
    if !weak.is_empty() {
        let rooms = count(found.rooms.weak.len(), "room", "rooms");
        doc = doc
            .folded(&format!("Power level too low in {rooms}"), &weak)
            .say("`!upgrade plan <room>` says who can raise my power level there, and how.");
    }
    let facts: Vec<_> = facts(found).iter().map(|fact| own(fact)).collect();
    doc = doc.folded("Checks", &facts);
    for complaint in unknown {
        doc = doc.line(&sentence(complaint, found));
    }
    doc.finish()
}

/// Rooms with too little power, those first where most is missing.
fn weak_rooms(found: &Checkup) -> Vec<Vec<Span>> {
    let mut weak: Vec<_> = found.rooms.weak.iter().collect();
    weak.sort_by_key(|room| (room.have.saturating_sub(room.needed), &room.label));
    let mut lines: Vec<_> = weak
        .iter()
        .take(ROOMS_SHOWN_MAX)
        .map(|weak| {
            let mut line = room(&weak.label, &weak.room_id, &[]);
            line.push(Span::Text(format!(
                ": an upgrade needs {}, I have {}",
                weak.needed, weak.have
            )));
            line
        })
        .collect();
    if weak.len() > ROOMS_SHOWN_MAX {
        lines.push(own(&format!("and {} more", weak.len() - ROOMS_SHOWN_MAX)));
    }
    lines
}

fn sentence(complaint: &Complaint, found: &Checkup) -> Vec<Span> {
    match complaint {
        Complaint::Database(what) => {
            let mut line = own(
                "The database is damaged. Stop me, put a backup in its place, and start me again. \
                 SQLite says: ",
            );
            line.push(Span::Code(what.clone()));
            line
        }
        Complaint::Clock(ahead) => {
            let way = if *ahead > 0 { "ahead of" } else { "behind" };
            own(&format!(
                "My clock is {} {way} the server's. Sync both with NTP, or commands may be \
                 rejected as too old.",
                apart(SignedDuration::from_secs(*ahead))
            ))
        }
        Complaint::NoCommander(room) => {
            let mut line = own("Nobody can give me commands in the admin room ");
            line.push(Span::Code(room.room_id.to_string()));
            if room.invited.is_empty() {
                line.extend(own(
                    ": nobody in it has `command_level`. Give someone that power level there, or name \
                     another room in the configuration.",
                ));
                return line;
            }
            line.push(Span::Text(" yet: ".to_owned()));
            for (number, user) in room.invited.iter().enumerate() {
                if number > 0 {
                    line.push(Span::Text(", ".to_owned()));
                }
                line.push(person(user));
            }
            let waits = match room.invited.len() {
                1 => " is invited and has not accepted yet.",
                _ => " are invited and have not accepted yet.",
            };
            line.push(Span::Text(waits.to_owned()));
            line
        }
        Complaint::NotVerified => own(match found.encryption.map(|facts| facts.identity) {
            Some(Identity::Unsigned) => {
                "My device is not verified, so some clients send me no keys, and I cannot read what \
                 they write in encrypted rooms. Put the account's recovery key into a file and name \
                 it as `account.recovery_key_file`."
            }
            _ => {
                "My account has no cross-signing identity, so some clients send me no keys. Start \
                 me once with `account.password`, or set encryption up with another client and name \
                 its recovery key as `account.recovery_key_file`."
            }
        }),
        Complaint::NoBackup => own(match found.encryption.map(|facts| facts.backup) {
            Some(Backup::Gone) => {
                "The server has no backup of the keys of encrypted messages (any more): without my data \
                 folder they are lost. `account.recovery_key_file` is set, and stays. Sign in to my \
                 account with another client, set up key backup there again with the same recovery key \
                 (in Element: Settings, Encryption), and start me again."
            }
            Some(Backup::Shut) => {
                "The key in `account.recovery_key_file` does not open the backup of the keys of encrypted \
                 messages on the server, which another client has made: without my data folder my keys \
                 are lost. Put the recovery key of that client into the file, and start me again."
            }
            _ => {
                "Encryption keys are not backed up; losing `data_dir` means losing them. \
                 Set `account.recovery_key_file`."
            }
        }),
        Complaint::EncryptionUnknown => own("I could not check my encryption. The log says why."),
        Complaint::Closed(bucket, lasts) => own(&format!(
            "The server limits {bucket}, and has let nothing through for {}. Upgrades wait for it. Ask the \
             server's admin to raise that limit for my account, or to exempt it.",
            duration(lasts.as_secs())
        )),
        Complaint::Limited => own(
            "I am rate-limited, so large rooms take hours. I can have that \
             changed: `!upgrade doctor --lift-limits`.",
        ),
        Complaint::LimitsUnknown => limits_unknown(found),
    }
}

/// What to ask a server admin for. Only Synapse is known to have it.
fn limits_unknown(found: &Checkup) -> Vec<Span> {
    let denied = if found.limits == Limits::Denied {
        "`[synapse_admin]` is set, but the server does not take my account for an admin's. "
    } else {
        ""
    };
    let mut line = own(&format!(
        "{denied}I cannot tell whether the server rate-limits me. On Synapse, ask a server \
         admin to send "
    ));
    line.push(Span::Code(format!(
        "POST /_synapse/admin/v1/users/{}/override_ratelimit",
        found.account
    )));
    line.extend(own(
        " with `{\"messages_per_second\": 0, \"burst_count\": 0}`; zero means without limit.",
    ));
    line
}

fn facts(found: &Checkup) -> Vec<String> {
    let server = &found.server;
    let mut facts = vec![format!("Account: `{}`", found.account)];
    facts.push(match (&server.name, &server.version) {
        (Some(name), Some(version)) => format!("Server: {} {}", plain(name), plain(version)),
        (Some(name), None) => format!("Server: {}", plain(name)),
        _ => "Server: unknown software".to_owned(),
    });
    facts.push(match found.limits {
        Limits::Lifted => "Rate limits: lifted".to_owned(),
        Limits::Apply => "Rate limits: they apply".to_owned(),
        Limits::Unknown | Limits::Denied => "Rate limits: not known".to_owned(),
    });
    if let Some(encryption) = found.encryption {
        let device = match encryption.identity {
            Identity::Signed => "device verified",
            Identity::Unsigned | Identity::Missing => "device not verified",
        };
        let backup = match encryption.backup {
            Backup::On => "keys backed up",
            Backup::Off | Backup::Gone | Backup::Shut => "keys not backed up",
        };
        facts.push(format!("Encryption: {device}, {backup}"));
    }
    let database = &found.database;
    facts.push(format!(
        "Database: version {}, {} KiB, {}",
        database.schema,
        database.bytes.div_ceil(BYTES_PER_KIB),
        if database.damage.is_some() {
            "damaged"
        } else {
            "OK"
        }
    ));
    facts.push(match found.ahead() {
        None => "Clock: the server does not tell its time".to_owned(),
        Some(ahead) if ahead.as_secs() == 0 => "Clock: in sync".to_owned(),
        Some(ahead) => format!("Clock: {} apart from the server's", apart(ahead)),
    });
    let rooms = count(found.rooms.looked_at, "room", "rooms");
    facts.push(format!(
        "Power: enough in {} of {rooms} that can be upgraded from here",
        found.rooms.looked_at - found.rooms.weak.len()
    ));
    facts
}

/// What a server says, without what would make code of it.
fn plain(text: &str) -> String {
    super::doc::shortened(&text.replace('`', ""))
}

fn apart(difference: SignedDuration) -> String {
    duration(difference.unsigned_abs().as_secs())
}

/// The limits are lifted.
pub(crate) fn lifted() -> Text {
    lines("Done: I am no longer rate-limited.")
}

/// The account is not configured as a server admin's.
pub(crate) fn no_admin() -> Text {
    lines(
        "Sorry, for that my account has to be a server admin on Synapse, and the configuration \
         needs a table `[synapse_admin]`. `!upgrade doctor` says what to ask an admin for instead.",
    )
}

/// The bot is not to make itself admin of rooms.
pub(crate) fn no_room_power() -> Text {
    lines(
        "Sorry, for that my account has to be a server admin on Synapse, and the configuration \
         needs `make_room_admin = true` in `[synapse_admin]`.",
    )
}

pub(crate) fn refused(why: &str) -> Text {
    Doc::new()
        .line(&[
            Span::Text("The server refused: ".to_owned()),
            Span::Text(super::doc::shortened(why)),
        ])
        .finish()
}

/// Nobody on the server could give the bot power.
pub(crate) fn no_power_there(why: &str) -> Text {
    Doc::new()
        .line(&[
            Span::Text("The server could not do it: ".to_owned()),
            Span::Text(super::doc::shortened(why)),
        ])
        .say(
            "It acts through someone on this server who has a power level in the room. If no one is \
             left, not even a server admin can upgrade it: create a new room and tell people some other \
             way.",
        )
        .finish()
}

/// The server gave the bot power in a room, which it could not enter or read then.
pub(crate) fn not_there(room: &RoomId, why: &str) -> Text {
    Doc::new()
        .line(&[
            Span::Text("The server gave me power in ".to_owned()),
            Span::Code(room.to_string()),
            Span::Text(format!(
                ", but I could not look at it: {}. Send the command again, or invite me there.",
                super::doc::shortened(why)
            )),
        ])
        .finish()
}

/// The bot has power in a room now; it may still be too little for an upgrade.
pub(crate) fn powerful(room: &RoomId, through: Option<&UserId>, allowance: Allowance) -> Text {
    let mut line = vec![
        Span::Text("I have power in ".to_owned()),
        Span::Code(room.to_string()),
        Span::Text(" now".to_owned()),
    ];
    if let Some(through) = through {
        line.push(Span::Text(", given in the name of ".to_owned()));
        line.push(person(through));
    }
    line.push(Span::Text(".".to_owned()));
    let doc = Doc::new().line(&line);
    match allowance {
        Allowance::Allowed => doc.say("Send the command again."),
        Allowance::Short { needed, have } => doc.say(&format!(
            "It is {have}, and an upgrade needs {needed}: no more than the server could give. Someone \
             with that power level (in version 12 and later, a creator) has to give me the rest; the plan says \
             who, and what to type."
        )),
    }
    .finish()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;

    use super::*;
    use crate::checkup::{DatabaseFacts, EncryptionFacts, RoomFacts, ServerFacts, WeakRoom};

    fn checkup() -> Checkup {
        let at = Timestamp::from_second(1000).unwrap();
        Checkup {
            account: "@bot:b".parse().unwrap(),
            server: ServerFacts {
                name: Some("Synapse".to_owned()),
                version: Some("1.163.2".to_owned()),
                now: Timestamp::from_second(880).ok(),
            },
            encryption: Some(EncryptionFacts {
                identity: Identity::Unsigned,
                backup: Backup::On,
            }),
            database: DatabaseFacts {
                schema: 3,
                bytes: 70_000,
                damage: None,
            },
            limits: Limits::Unknown,
            closed: BTreeMap::new(),
            rooms: RoomFacts {
                looked_at: 2,
                weak: vec![WeakRoom {
                    room_id: "!a:b".try_into().unwrap(),
                    label: "Lounge".to_owned(),
                    needed: 100,
                    have: 50,
                }],
                without_commander: vec![],
            },
            at,
        }
    }

    #[test]
    fn what_is_wrong_comes_first() {
        insta::assert_snapshot!(report(&checkup()).plain, @r#"
        Problems, worst first
        - My clock is 2m ahead of the server's. Sync both with NTP, or commands may be rejected as too old.
        - My device is not verified, so some clients send me no keys, and I cannot read what they write in encrypted rooms. Put the account's recovery key into a file and name it as `account.recovery_key_file`.
        Power level too low in 1 room
        - Lounge (`!a:b`): an upgrade needs 100, I have 50
        `!upgrade plan <room>` says who can raise my power level there, and how.
        Checks
        - Account: `@bot:b`
        - Server: Synapse 1.163.2
        - Rate limits: not known
        - Encryption: device not verified, keys backed up
        - Database: version 3, 69 KiB, OK
        - Clock: 2m apart from the server's
        - Power: enough in 1 of 2 rooms that can be upgraded from here
        I cannot tell whether the server rate-limits me. On Synapse, ask a server admin to send `POST /_synapse/admin/v1/users/@bot:b/override_ratelimit` with `{"messages_per_second": 0, "burst_count": 0}`; zero means without limit.
        "#);
    }

    #[test]
    fn a_backup_that_was_deleted_is_not_a_key_that_is_missing() {
        for (backup, part) in [
            (Backup::Off, Some("Set `account.recovery_key_file`")),
            (Backup::Gone, Some("set up key backup there again")),
            (Backup::Shut, Some("does not open the backup")),
            (Backup::On, None),
        ] {
            let mut found = checkup();
            found.encryption = Some(EncryptionFacts {
                identity: Identity::Signed,
                backup,
            });
            let said = report(&found).plain;
            let parts = [
                "Set `account.recovery_key_file`",
                "set up key backup there again",
                "does not open the backup",
            ];
            let told: Vec<_> = parts
                .into_iter()
                .filter(|part| said.contains(part))
                .collect();
            assert_eq!(told, part.into_iter().collect::<Vec<_>>(), "{said}");
        }
    }
}
