//! What a finding says to a moderator: what it is, and what they can do about it.

use ruma::UserId;

use super::count;
use super::doc::{Span, own, person, shortened};
use crate::model::Method;
use crate::room::finding::{
    FalseWhy, Finding, Holder, LeftBehind, MethodReason, Permission, ShutOut, Unreadable,
};
use crate::room::level::Power;

/// How many places in power levels are named.
const PLACES_SHOWN_MAX: usize = 5;

fn text(text: impl Into<String>) -> Span {
    Span::Text(text.into())
}

fn joined(items: impl IntoIterator<Item = Span>) -> Vec<Span> {
    let mut spans = Vec::new();
    for item in items {
        if !spans.is_empty() {
            spans.push(text(", "));
        }
        spans.push(item);
    }
    spans
}

/// Who could help, and the command that gives the bot what it lacks.
pub(super) fn ask(holders: &[Holder], bot: &UserId, needed: i64) -> Vec<Span> {
    if holders.is_empty() {
        return vec![text(
            " Nobody in that room has it, as far as I can see; a server admin may be able to help.",
        )];
    }
    let mut spans = vec![text(" Ask ")];
    spans.extend(joined(holders.iter().map(|holder| {
        text(match holder.power {
            Power::Creator => format!("{} (creator)", holder.user),
            Power::Level(level) => format!("{} ({level})", holder.user),
        })
    })));
    spans.push(text(" to type there: "));
    spans.push(Span::Code(format!("/op {bot} {needed}")));
    spans
}

fn deed(deed: &Permission) -> &'static str {
    match deed {
        Permission::SendTombstone => "upgrade it",
        Permission::ChangePowerLevels => "close it to new messages",
        Permission::EditSpace => "change its list of rooms",
        Permission::EditParent => "change which space it names",
        Permission::EditJoinRules => "change who can join it",
        Permission::ChangeAliases => "change its addresses",
        Permission::Pin => "pin the message with the link",
        Permission::Invite => "let people into the new one, which nobody could enter then",
        Permission::SendState { .. } => "change its settings",
    }
}

/// One finding as a line.
#[expect(clippy::too_many_lines, reason = "a sentence per finding")]
pub(super) fn line(finding: &Finding, bot: &UserId) -> Vec<Span> {
    match finding {
        Finding::NotJoined => vec![
            text("I am not in this room. Please invite me there: "),
            Span::Code(format!("/invite {bot}")),
            text(
                " I accept invitations from anyone who can command me here. Then send the command again.",
            ),
        ],
        Finding::AlreadyUpgraded { replacement, by } => {
            let mut spans = vec![text("The room was already upgraded by "), person(by)];
            if let Some(room) = replacement {
                spans.push(text("; it leads to "));
                spans.push(Span::Code(room.to_string()));
            }
            spans.push(text(". "));
            spans.extend(own(
                "`!upgrade adopt` with this room finishes what is missing.",
            ));
            spans
        }
        Finding::NotUpgraded => own(
            "Nobody has upgraded this room yet, so there is nothing to finish. Without `adopt`, I \
             upgrade it.",
        ),
        Finding::FalseSuccessor { room, by, why } => {
            let mut spans = vec![person(by), text(" marked this room as replaced, but ")];
            if let Some(room) = room {
                spans.push(text("by "));
                spans.push(Span::Code(room.to_string()));
                spans.push(text(", and "));
            }
            spans.extend(match why {
                FalseWhy::NoRoom => {
                    own("without naming a new room. Without `adopt`, I upgrade it.")
                }
                FalseWhy::Itself => {
                    own("that is the room itself. Without `adopt`, I upgrade it.")
                }
                FalseWhy::CannotEnter => {
                    let mut spans = own("I am not in that room and cannot join it. If it is the right one, invite me there: ");
                    spans.push(Span::Code(format!("/invite {bot}")));
                    spans.extend(take_back());
                    spans
                }
                FalseWhy::NotPredecessor => own(
                    "that room does not name this one as its predecessor, so I do not trust it.",
                )
                .into_iter()
                .chain(take_back())
                .collect(),
            });
            spans
        }
        Finding::SuccessorClosed { room, replacement } => {
            let mut spans = own("The new room was upgraded itself, and nobody can talk there: ");
            spans.push(Span::Code(room.to_string()));
            if let Some(replacement) = replacement {
                spans.push(text(". It leads to "));
                spans.push(Span::Code(replacement.to_string()));
            }
            spans.push(text(". What that upgrade left out I can finish: "));
            spans.push(Span::Code(format!("!upgrade adopt {room}")));
            spans.push(text("."));
            spans
        }
        Finding::LeadsNowhere { by } => vec![
            person(by),
            text(" marked this room as replaced, but that leads nowhere. I upgrade it; then it leads to the new room."),
        ],
        Finding::FollowsAdminRoom => own(
            "This is a room in which I take commands. I go with you: afterwards I listen in the \
             new room, and not here any more.",
        ),
        Finding::MethodChosen { method, reason } => own(&chosen(*method, *reason)),
        Finding::Invites {
            bots,
            creators,
            members,
        } => {
            let people: Vec<_> = [
                (*bots, "bot", "bots"),
                (*creators, "creator", "creators"),
                (*members, "other", "others"),
            ]
            .into_iter()
            .filter(|(number, ..)| *number > 0)
            .map(|(number, one, many)| count(number, one, many))
            .collect();
            own(&format!("I will invite {}.", people.join(", ")))
        }
        Finding::LevelsDropped { places } => vec![text(format!(
            "Non-integer power levels are dropped ({}).",
            some(places)
        ))],
        Finding::UnknownVersion { version, available } => vec![text(format!(
            "I do not know room version {}. I can do: {}.",
            shortened(version.as_str()),
            versions(available)
        ))],
        Finding::UnknownOldVersion { version } => vec![text(format!(
            "This room has version {}. I do not know its rules, and so not who has power in it.",
            shortened(version.as_str())
        ))],
        Finding::VersionNotOffered { version, available } => vec![text(format!(
            "This server does not offer room version {}. It offers: {}.",
            shortened(version.as_str()),
            versions(available)
        ))],
        Finding::CreatorsTakeBack { from, to } => own(&format!(
            "From version {from} to {to}, the server's own upgrade would leave everybody without \
             power. Let me make the new room myself: `--method staged`."
        )),
        Finding::NoPower {
            what,
            needed,
            have,
            holders,
        } => {
            let mut spans = vec![text(format!(
                "I need power level {needed} in this room to {}, and have {have}.",
                deed(what)
            ))];
            spans.extend(ask(holders, bot, *needed));
            spans
        }
        Finding::ServerGivesPower { room, through } => {
            let mut spans = own("I can have the server give me power there");
            if let Some(through) = through {
                spans.push(text(", in the name of "));
                spans.push(person(through));
            }
            spans.push(text(": type "));
            spans.push(Span::Code(format!("!upgrade doctor --power {room}")));
            spans.push(text("."));
            spans
        }
        Finding::NoPowerLevels => own(
            "The room has no permission settings, and the server's upgrade fails without them. Let \
             me make the new room myself: `--method staged`.",
        ),
        Finding::BrokenPowerLevels { places } => {
            let mut spans = vec![text(format!(
                "The room's permission settings hold something that is no whole number ({}), and \
                 the server's upgrade fails at it. ",
                some(places)
            ))];
            spans.extend(own("Let me make the new room myself: `--method staged`."));
            spans
        }
        Finding::UnbannableBans { users } => {
            let mut spans = vec![text(
                "These users are banned and have as much power as I, or I may not ban; the \
                 server's upgrade fails at them: ",
            )];
            spans.extend(joined(
                users.iter().take(PLACES_SHOWN_MAX).map(|user| Span::Code(shortened(user))),
            ));
            spans.extend(own(
                ". Give me more power than they have, take theirs away, or use `--method staged`.",
            ));
            spans
        }
        Finding::ActiveJob { job } => own(&format!(
            "Upgrade #{job} is at work on this room. `!upgrade status {job}` shows it, in the room where \
             it was asked for."
        )),
        Finding::OwnAdminRoom => own(
            "This is a room in which I take commands. If you mean it, type \
             `!upgrade <room> --yes-this-room`; I go with you to the new one.",
        ),
        Finding::AdminRoomClosed => own(
            "This is a room in which I take commands, and I do not finish its upgrade. I take them in \
             the new room by myself if whoever closed this one may command me; otherwise whoever runs \
             me enters the new room in my configuration.",
        ),
        Finding::NoSuchUser { user } => vec![
            text("The user "),
            person(user),
            text(" does not exist, and so cannot become a creator."),
        ],
        Finding::ServerEncryptsAll => own(
            "This server encrypts every new room of this kind, which cannot be undone, and this room is not \
             encrypted. Its admin can change that (`encryption_enabled_by_default_for_room_type` on Synapse). \
             If the new room may be encrypted: `--method server`.",
        ),
        Finding::ShutOutCreator { user, why } => {
            let mut spans = shut_out(user, *why);
            spans.extend(own(
                ", and a creator cannot be taken back. Change that, or leave them out: `--creator` in the \
                 command, `additional_creators` in my configuration.",
            ));
            spans
        }
        Finding::WillBeEncrypted => own(
            "The new room will be encrypted, and this one is not: the server's own upgrade does that here, \
             and nobody can undo it.",
        ),
        Finding::AbsentCreator { user, why } => {
            let mut spans = shut_out(user, *why);
            spans.push(text(", and stays a creator, as in the old room."));
            spans
        }
        Finding::NotCarried {
            kind,
            state_key,
            why,
        } => {
            let mut spans = vec![text("Not copied: "), Span::Code(shortened(kind))];
            if !state_key.is_empty() {
                spans.push(text(" "));
                spans.push(Span::Code(shortened(state_key)));
            }
            spans.push(text(match why {
                LeftBehind::PersonsOwn => ", which only that person can set.".to_owned(),
                LeftBehind::BridgeRecord => {
                    ", a bridge's own record; the bridge writes it anew when it follows.".to_owned()
                }
                LeftBehind::CallOrLocation => ", a call or shared location of now.".to_owned(),
                LeftBehind::ThirdPartyInvite => ", an invitation by e-mail.".to_owned(),
                LeftBehind::TooLarge { bytes } => {
                    format!(", because it is too large ({bytes} bytes).")
                }
                LeftBehind::Fraction => {
                    ", because it holds a number that newer rooms refuse.".to_owned()
                }
                LeftBehind::NoPath => {
                    ", because no request can name it: dots alone are taken out of an address."
                        .to_owned()
                }
            }));
            spans
        }
        Finding::CannotEdit {
            label,
            deed: what,
            needed,
            have,
            holders,
            ..
        } => {
            let mut spans = vec![
                Span::Bold(shortened(label)),
                text(format!(
                    ": I have too little power there to {} ({have}, and it takes {needed}).",
                    deed(what)
                )),
            ];
            spans.extend(ask(holders, bot, *needed));
            spans
        }
        Finding::RemoteAlias { alias } => vec![
            text("The address "),
            Span::Code(alias.to_string()),
            text(" is on another server. Only somebody with an account there can move it."),
        ],
        Finding::UnseenSpace { space } => vec![
            text("This room belongs to a space I am not in: "),
            Span::Code(space.to_string()),
            text(". Please invite me there, or put the new room into its list yourself: "),
            Span::Code(format!("/invite {bot}")),
            text("."),
        ],
        Finding::InvitationsNeeded { count: people } => vec![text(format!(
            "{} an invitation to the new room, as it is not open to members of the old one.",
            count(*people, "person needs", "people need")
        ))],
        Finding::PolicyServer { server } => vec![text(format!(
            "The new room names the policy server {}, as the old one does. It checks only rooms that it is \
             in: whoever runs it has to bring it into the new one.",
            shortened(server)
        ))],
        Finding::PinsStay { why } => own(&format!(
            "Pinned messages do not come along: {}. Post and pin them again once people are in the new room.",
            unreadable(*why)
        )),
        Finding::KnocksWait { users } => {
            let mut spans = vec![text(format!(
                "{} asked to be let in and {} for an answer: ",
                count(users.len(), "person", "people"),
                if users.len() == 1 { "waits" } else { "wait" },
            ))];
            spans.extend(joined(
                users.iter().take(PLACES_SHOWN_MAX).map(|user| person(user)),
            ));
            if users.len() > PLACES_SHOWN_MAX {
                spans.push(text(", ..."));
            }
            spans.push(text(
                ". I leave that to you: answer before, or invite them to the new room afterwards.",
            ));
            spans
        }
        Finding::CreateKeysStay { keys } => own(
            "What this room was created with does not come along, as the server leaves it out; with \
             `--method staged`, it does: ",
        )
        .into_iter()
        .chain(joined(
            keys.iter()
                .take(PLACES_SHOWN_MAX)
                .map(|key| Span::Code(shortened(key))),
        ))
        .chain([text(".")])
        .collect(),
        Finding::SettingsStay { people } => vec![text(format!(
            "Favourites and notification settings of {} on this server do not come along.",
            count(*people, "person", "people")
        ))],
        Finding::JoinRuleKept { rule } => vec![
            text("I do not know the join rule "),
            Span::Code(shortened(rule)),
            text(" and keep it as it is."),
        ],
        Finding::TextLevels { places } => vec![text(format!(
            "Permission levels written as text become numbers ({}).",
            some(places)
        ))],
        Finding::StrayAddress { alias } => vec![
            text("The room shows the address "),
            Span::Code(alias.to_string()),
            text(", which does not lead to it. I leave that out of the new room."),
        ],
        Finding::UnknownCreator { user } => vec![
            text("I could not find out whether "),
            person(user),
            text(" exists; their server does not say."),
        ],
        Finding::Creators { users } => {
            let mut spans = vec![text(
                "Creators of the new room, with more power than anybody else for ever: ",
            )];
            for (number, user) in users.iter().enumerate() {
                if number > 0 {
                    spans.push(text(", "));
                }
                spans.push(person(user));
                if user == bot {
                    spans.push(text(" (me)"));
                }
            }
            spans.push(text(". This cannot be changed later."));
            spans
        }
        Finding::TombstoneLevel { level } => vec![text(format!(
            "Upgrading the new room again will take power {level}, so only its creators can."
        ))],
        Finding::MembersFollow { rule } => vec![
            text("Members of the old room can join the new one without an invitation ("),
            Span::Code(shortened(rule)),
            text(")."),
        ],
        Finding::PolicyRules { count: rules } => vec![text(format!(
            "{} along. Communities that subscribe to this list must subscribe to the new room.",
            count(*rules, "ban-list rule comes", "ban-list rules come")
        ))],
        Finding::PoliciesUndecided {
            room,
            version,
            count: rules,
        } => {
            let command = match version {
                Some(version) => format!("!upgrade {room} {version} --policies"),
                None => format!("!upgrade adopt {room} --policies"),
            };
            own(&format!(
                "This is a policy room (a ban list) with {}. Choose what becomes of them. `move`: I copy them to \
                 the new room, and whoever watches the list watches the new room in place of this one. \
                 `transition`: they stay here, new rules are made in the new room, and whoever watches the list \
                 has to watch both. Send `{command} move` or `{command} transition`.",
                count(*rules, "rule", "rules")
            ))
        }
        Finding::PoliciesNeedStaged => own(
            "The server's own upgrade can neither say what becomes of the rules of a policy room nor change its \
             type. With `--method staged`, I make the new room myself.",
        ),
        Finding::NoPolicyRoom => own(
            "`--policies` and `--room-type` are for policy rooms (ban lists). This room has no policy rules, and \
             not the type of a policy room: leave them out.",
        ),
        Finding::PoliciesMove { count: rules } => own(&format!(
            "{} along, with who made them and when. The bots of those who watch this list do not follow by \
             themselves: whoever watches it has to confirm the new room or watch it.",
            count(*rules, "ban-list rule comes", "ban-list rules come")
        )),
        Finding::PoliciesStay { room, count: rules } => vec![
            text(format!(
                "{} in the old room. Both lists have to be watched: the new one for all rules to come, and the \
                 old one, by its id as its addresses move: ",
                count(*rules, "ban-list rule stays", "ban-list rules stay")
            )),
            Span::Code(room.to_string()),
            text("."),
        ],
        Finding::BecomesPolicyRoom => own(
            "The new room gets the type `m.policy`, which marks it as a policy room. This cannot be changed later.",
        ),
        Finding::OtherPolicyType { kind } => {
            let mut spans = match kind {
                Some(kind) => vec![
                    text("The new room keeps the type "),
                    Span::Code(shortened(kind)),
                ],
                None => vec![text("The new room has no type, as the old one")],
            };
            spans.extend(own(
                ". With `--room-type m.policy` it gets the type that is specified for policy rooms, which only \
                 an upgrade can change.",
            ));
            spans
        }
        Finding::BridgeAccounts {
            count: accounts,
            bots,
        } => {
            let mut spans = own(&format!(
                "{} of a bridge (`@_...`) in this room; I neither invite nor count them, as their bridge \
                 brings them itself.",
                count(*accounts, "account", "accounts")
            ));
            if bots.is_empty() {
                spans.push(text(
                    " I cannot tell which account is the bridge's bot: whoever runs it has to tell it \
                     about the new room.",
                ));
            } else {
                spans.push(text(" Its bot: "));
                spans.extend(joined(
                    bots.iter().take(PLACES_SHOWN_MAX).map(|bot| person(bot)),
                ));
                spans.push(text("."));
            }
            spans
        }
        Finding::SpaceChildren { count: rooms } => vec![text(format!(
            "Space: its list of {} is copied.",
            count(*rooms, "room", "rooms")
        ))],
    }
}

/// Why copies of pinned messages would be of no use.
pub(super) fn unreadable(why: Unreadable) -> &'static str {
    match why {
        Unreadable::History => "in this room, people cannot read what was posted before they came",
        Unreadable::Encrypted => {
            "the room is encrypted, and people have no keys for what was posted before they came"
        }
    }
}

/// How a tombstone is taken back that leads to a wrong room.
fn take_back() -> Vec<Span> {
    own(
        " If it is the wrong one, remove the event that says so, or empty it (in Element: `/devtools`, Explore \
         room state, `m.room.tombstone`). Then I upgrade this room without `adopt`.",
    )
}

/// Why somebody cannot be in the room; the sentence goes on.
fn shut_out(user: &UserId, why: ShutOut) -> Vec<Span> {
    let why = match why {
        ShutOut::Banned => " is banned in this room",
        ShutOut::ServerDenied => {
            " cannot be in this room, which shuts out their server (`m.room.server_acl`)"
        }
        ShutOut::NotFederated => {
            " cannot be in this room, which is closed to other servers (`m.federate`)"
        }
    };
    let mut spans = vec![person(user)];
    spans.extend(own(why));
    spans
}

/// How the new room comes to be, and why so, in one sentence.
fn chosen(method: Method, reason: MethodReason) -> String {
    let why = match reason {
        MethodReason::Asked => "as you asked".to_owned(),
        MethodReason::Review => "so that you can look at it first".to_owned(),
        MethodReason::PolicyRoom => {
            "as only this can say what becomes of the rules of a policy room".to_owned()
        }
        MethodReason::CreatorsTakeBack => {
            "as the server would leave everybody without power in that version".to_owned()
        }
        MethodReason::ServerWouldFail => {
            "as the server's own upgrade fails at the permissions or bans of this room".to_owned()
        }
        MethodReason::ServerEncrypts => {
            "as the server's own upgrade would encrypt the new room".to_owned()
        }
        MethodReason::KeepsSettings { people } => format!(
            "as this keeps favourites and notification settings of {} on this server",
            count(people, "person", "people")
        ),
        MethodReason::NobodyLocal => "as nobody else on this server is in it".to_owned(),
        MethodReason::OtherServer => "as this is the safest way on this server".to_owned(),
    };
    match method {
        Method::Server => format!("Method `server`, {why}."),
        Method::Staged => format!("Method `staged`, {why}."),
        Method::Adopt => "Somebody else made the new room.".to_owned(),
    }
}

fn versions(available: &[ruma::RoomVersionId]) -> String {
    let mut names: Vec<_> = available.iter().map(ruma::RoomVersionId::as_str).collect();
    // Only to read well: versions have no order.
    names.sort_by_key(|name| (name.len(), *name));
    names.join(", ")
}

fn some(places: &[String]) -> String {
    let mut shown: Vec<_> = places
        .iter()
        .take(PLACES_SHOWN_MAX)
        .map(|p| shortened(p))
        .collect();
    if places.len() > PLACES_SHOWN_MAX {
        shown.push(format!("and {} more", places.len() - PLACES_SHOWN_MAX));
    }
    shown.join(", ")
}
