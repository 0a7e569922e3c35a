//! The inventory: every room with what an upgrade would meet, in groups that a phone can show.
//!
//! A message has a size that it must not exceed, and hundreds of rooms do: what does not fit is
//! counted, and stands in a file that has everything.

use ruma::{RoomVersionId, UserId};

use super::count;
use super::doc::{Doc, Span, own, room};
use crate::model::Text;
use crate::room::inventory::{Entry, Kind, Seen, Standing};
use crate::room::level::Power;

/// Both forms of the message together, in bytes. Homeservers refuse events above 65,536 bytes, and
/// encryption and JSON add to what stands in them.
/// Source: Matrix specification, "Size limits".
const BYTES_MAX: usize = 28_000;

/// What is kept for a group's heading, how to mend it, its tags and its line about what is left out, and as much
/// again for the lines around all groups.
const GROUP_BYTES: usize = 1_200;

/// Rooms that need a person and are shown without unfolding them; more are folded below those.
const UNFOLDED_MAX: usize = 12;

/// The inventory as it is posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inventory {
    pub text: Text,
    /// The whole list as a text file, where it does not fit into the message.
    pub file: Option<String>,
}

/// A group of rooms, in the order in which they matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    NeedsPower,
    Ready,
    NotJoined,
    AdminRoom,
    Wanted,
    Newer,
    Replaced,
}

impl Group {
    const ALL: [Self; 7] = [
        Self::NeedsPower,
        Self::NotJoined,
        Self::Ready,
        Self::AdminRoom,
        Self::Wanted,
        Self::Newer,
        Self::Replaced,
    ];

    fn of(standing: &Standing) -> Self {
        match standing {
            Standing::NeedsPower { .. } => Self::NeedsPower,
            Standing::Ready => Self::Ready,
            Standing::NotJoined { .. } => Self::NotJoined,
            Standing::AdminRoom => Self::AdminRoom,
            Standing::Wanted => Self::Wanted,
            Standing::Newer => Self::Newer,
            Standing::Replaced { .. } => Self::Replaced,
        }
    }

    /// What a person does about it; `None` where nothing is to be done.
    fn remedy(self, bot: &UserId) -> Option<String> {
        match self {
            Self::NeedsPower => Some(format!(
                "To fix this, someone with that power level types `/op {bot} <level>` in that room, or sets it \
                 under Settings → Roles. `!upgrade plan <room>` says who can."
            )),
            Self::NotJoined => Some(format!(
                "To fix this, someone in that room types `/invite {bot}` there."
            )),
            Self::Ready | Self::AdminRoom | Self::Wanted | Self::Newer | Self::Replaced => None,
        }
    }

    fn heading(self, number: usize, wanted: &RoomVersionId) -> String {
        let rooms = count(number, "room", "rooms");
        match self {
            Self::NeedsPower => format!("Power level too low: {rooms}"),
            Self::Ready => format!("Ready: {rooms}"),
            Self::NotJoined => format!("I am not in: {rooms}"),
            Self::Wanted => format!("Already on version {wanted}: {rooms}"),
            Self::AdminRoom => format!("Admin rooms: {rooms}"),
            Self::Newer => format!("Already on a newer version: {rooms}"),
            Self::Replaced => format!("Already replaced: {rooms}"),
        }
    }
}

pub(crate) fn inventory(entries: &[Entry], wanted: &RoomVersionId, bot: &UserId) -> Inventory {
    if entries.is_empty() {
        let text = "I am not in any room that can be upgraded from here. Invite me first.";
        let text = Doc::new().say(text).finish();
        return Inventory { text, file: None };
    }
    let groups = groups(entries);
    let mut doc = Doc::new().line(&title(entries, wanted));
    let mut missing = 0;
    let mut left = BYTES_MAX - GROUP_BYTES * (Group::ALL.len() + 1);
    for (group, rows) in &groups {
        let heading = group.heading(rows.len(), wanted);
        let mut shown: Vec<Vec<Span>> = rows
            .iter()
            .map_while(|row| {
                let bytes = Doc::new().item(row).bytes();
                left = left.checked_sub(bytes)?;
                Some(row.clone())
            })
            .collect();
        let rest = rows.len() - shown.len();
        if rest > 0 {
            missing += rest;
            shown.push(own(&format!("and {rest} more")));
        }
        let Some(remedy) = group.remedy(bot) else {
            doc = doc.folded(&heading, &shown);
            continue;
        };
        let folded = shown.split_off(shown.len().min(UNFOLDED_MAX));
        doc = shown
            .iter()
            .fold(doc.heading(&heading).say(&remedy), |doc, row| doc.item(row));
        if !folded.is_empty() {
            doc = doc.folded("The others of these", &folded);
        }
    }
    let file = (missing > 0).then(|| {
        let all = Doc::new().line(&title(entries, wanted));
        let all = groups.iter().fold(all, |all, (group, rows)| {
            all.folded(&group.heading(rows.len(), wanted), rows)
        });
        all.finish().plain
    });
    if missing > 0 {
        doc = doc.say(&format!(
            "{} left out here; the file below has all. `!upgrade rooms <space>` shows one space.",
            count(missing, "room is", "rooms are")
        ));
    }
    Inventory {
        text: doc.finish(),
        file,
    }
}

fn title(entries: &[Entry], wanted: &RoomVersionId) -> Vec<Span> {
    let spaces = entries
        .iter()
        .filter(|entry| matches!(&entry.seen, Some(seen) if seen.kind == Kind::Space))
        .count();
    let spaces = match spaces {
        0 => String::new(),
        some => format!(", {} among them", count(some, "space", "spaces")),
    };
    vec![
        Span::Bold(count(entries.len(), "room", "rooms")),
        Span::Text(format!("{spaces}; target version {wanted}.")),
    ]
}

/// Groups that are not empty, each with its rows: where most people are first.
fn groups(entries: &[Entry]) -> Vec<(Group, Vec<Vec<Span>>)> {
    let members = |entry: &Entry| entry.seen.as_ref().map_or(0, |seen| seen.members);
    Group::ALL
        .into_iter()
        .filter_map(|group| {
            let mut of_group: Vec<_> = entries
                .iter()
                .filter(|entry| Group::of(&entry.standing) == group)
                .collect();
            of_group.sort_by(|a, b| {
                members(b)
                    .cmp(&members(a))
                    .then_with(|| a.label.cmp(&b.label))
            });
            let rows: Vec<_> = of_group.into_iter().map(row).collect();
            (!rows.is_empty()).then_some((group, rows))
        })
        .collect()
}

fn row(entry: &Entry) -> Vec<Span> {
    let mut spans = match &entry.seen {
        Some(_) => room(&entry.label, &entry.room_id, &[]),
        None => vec![Span::Code(entry.room_id.to_string())],
    };
    let mut facts = entry.seen.as_ref().map(facts).unwrap_or_default();
    match &entry.standing {
        Standing::NeedsPower { needed } => {
            let have = match entry.seen.as_ref().map(|seen| seen.power) {
                Some(Power::Level(level)) => level,
                Some(Power::Creator) | None => 0,
            };
            facts.push(format!("needs {needed}, I have {have}"));
        }
        Standing::NotJoined {
            listed_by: Some(space),
        } => facts.push(format!("listed in {}", super::doc::shortened(space))),
        Standing::Replaced { by } => {
            facts.push(format!("replaced by {}", super::doc::shortened(by)));
        }
        Standing::Ready | Standing::AdminRoom => {
            facts.extend(entry.seen.as_ref().map(|seen| match seen.power {
                Power::Level(level) => format!("my power level {level}"),
                Power::Creator => "I am a creator".to_owned(),
            }));
        }
        Standing::Wanted | Standing::Newer | Standing::NotJoined { listed_by: None } => {}
    }
    if !facts.is_empty() {
        spans.push(Span::Text(format!(": {}", facts.join(", "))));
    }
    spans
}

fn facts(seen: &Seen) -> Vec<String> {
    let kind = match seen.kind {
        Kind::Room => None,
        Kind::Space => Some("space".to_owned()),
    };
    let members = usize::try_from(seen.members).unwrap_or(usize::MAX);
    kind.into_iter()
        .chain([
            format!("version {}", seen.version),
            count(members, "member", "members"),
        ])
        .collect()
}

#[cfg(test)]
mod tests {
    use ruma::{RoomId, user_id};

    use super::*;

    fn entry(id: &str, label: &str, members: u64, standing: Standing) -> Entry {
        Entry {
            room_id: RoomId::parse(id).unwrap(),
            label: label.to_owned(),
            standing,
            seen: Some(Seen {
                kind: Kind::Room,
                version: RoomVersionId::V10,
                members,
                power: Power::Level(50),
            }),
        }
    }

    #[test]
    fn groups_stand_in_the_order_in_which_they_matter() {
        let mut space = entry("!s:x", "Space", 40, Standing::Ready);
        space.seen = Some(Seen {
            kind: Kind::Space,
            version: RoomVersionId::V11,
            members: 40,
            power: Power::Creator,
        });
        let replaced = |by: &str| Standing::Replaced { by: by.to_owned() };
        let listed_by = Some("Space".to_owned());
        let mut far = entry("!far:y", "!far:y", 0, Standing::NotJoined { listed_by });
        far.seen = None;
        let entries = [
            entry("!old:x", "Old", 3, replaced("New <b>")),
            entry("!lost:x", "Lost", 2, replaced("!x:y")),
            entry("!new:x", "New <b>", 9, Standing::Wanted),
            entry("!few:x", "Few", 1, Standing::NeedsPower { needed: 100 }),
            entry("!many:x", "Many", 90, Standing::NeedsPower { needed: 150 }),
            space,
            far,
        ];
        let told = inventory(&entries, &RoomVersionId::V12, user_id!("@bot:x"));
        assert_eq!(told.file, None);
        insta::assert_snapshot!(told.text.plain, @"
        7 rooms, 1 space among them; target version 12.
        Power level too low: 2 rooms
        To fix this, someone with that power level types `/op @bot:x <level>` in that room, or sets it under Settings → Roles. `!upgrade plan <room>` says who can.
        - Many (`!many:x`): version 10, 90 members, needs 150, I have 50
        - Few (`!few:x`): version 10, 1 member, needs 100, I have 50
        I am not in: 1 room
        To fix this, someone in that room types `/invite @bot:x` there.
        - `!far:y`: listed in Space
        Ready: 1 room
        - Space (`!s:x`): space, version 11, 40 members, I am a creator
        Already on version 12: 1 room
        - New <b> (`!new:x`): version 10, 9 members
        Already replaced: 2 rooms
        - Old (`!old:x`): version 10, 3 members, replaced by New <b>
        - Lost (`!lost:x`): version 10, 2 members, replaced by !x:y
        ");
        assert!(told.text.html.contains(">New &lt;b&gt;</a>"));
        // Who is needed sees it at once; what is fine is folded.
        let (open, folded) = told.text.html.split_once("<details>").unwrap();
        assert!(open.contains("Power level too low") && open.contains("I am not in"));
        assert!(!folded.contains("/op") && folded.contains("Ready: 1 room"));
    }

    #[test]
    fn nothing_to_list_is_said() {
        let told = inventory(&[], &RoomVersionId::V12, user_id!("@bot:x"));
        assert!(told.text.plain.contains("Invite me first"), "{told:?}");
    }

    #[test]
    fn no_message_is_too_large_and_what_is_left_out_is_counted() {
        let id = |n: usize| format!("!{n:044}");
        for rooms in [6, 100, 200, 1_000] {
            let entries: Vec<_> = (0..rooms)
                .map(|n| {
                    let standing = match n % 3 {
                        0 => Standing::NeedsPower { needed: 100 },
                        1 => Standing::Ready,
                        _ => Standing::Wanted,
                    };
                    entry(&id(n), &"<".repeat(n % 90), 10, standing)
                })
                .collect();
            let Inventory { text, file } =
                inventory(&entries, &RoomVersionId::V12, user_id!("@bot:x"));
            let bytes = text.plain.len() + text.html.len();
            assert!(bytes <= BYTES_MAX, "{rooms} rooms: {bytes}");
            let ids = |text: &str| (0..rooms).filter(|n| text.contains(&id(*n))).count();
            assert_eq!(ids(&text.plain), ids(&text.html), "{rooms} rooms");
            let missing = rooms - ids(&text.plain);
            assert_eq!(missing > 0, rooms >= 100, "{rooms} rooms: {missing}");
            match file {
                Some(file) => {
                    assert_eq!(ids(&file), rooms);
                    let said = format!("{missing} rooms are left out");
                    assert!(text.plain.contains(&said), "{}", text.plain);
                }
                None => assert_eq!(missing, 0),
            }
            // Each group is told with its number, even where no row of it fits.
            assert!(text.plain.contains(&format!(
                "Ready: {}",
                count((rooms + 1) / 3, "room", "rooms")
            )));
        }
    }
}
