//! Makes a command of the words that the grammar has read, and checks what it cannot: versions, users, options that
//! exclude each other.

use ruma::{OwnedUserId, RoomVersionId};

use super::error::{CommandError, Problem};
use super::grammar::{HowWords, Verb};
use super::{
    Command, DoctorAction, ListScope, MAX_CREATORS, MAX_REASON_CHARS, SpaceCommand, UpgradeCommand,
    grammar, ping, reference, spread, when, words,
};
use crate::model::{
    Announce, Confirmation, MethodChoice, OwnAdminRoom, Review, RoomRef, UpgradeOptions,
};

/// Reads what follows the prefix.
pub(super) fn read(arguments: &str) -> Result<Command, CommandError> {
    let words = words::split(arguments).map_err(|problem| CommandError {
        problem,
        topic: None,
    })?;
    if words.is_empty() {
        return Ok(Command::Help(None));
    }
    let (topic, words) = grammar::with_verb(words);
    if words.iter().any(|word| word == "--help" || word == "-h") {
        return Ok(Command::Help(topic));
    }
    spread::joined(words)
        .and_then(|words| grammar::parse(&words))
        .and_then(command)
        // Who fails to ask for help is better sent to the list.
        .map_err(|problem| CommandError {
            problem,
            topic: topic.filter(|topic| topic.as_str() != grammar::HELP_VERB),
        })
}

/// Gives the words of a command their meaning.
fn command(verb: Verb) -> Result<Command, Problem> {
    Ok(match verb {
        Verb::Upgrade {
            upgrade,
            yes,
            yes_this_room,
        } => {
            let confirmation = if yes {
                Confirmation::Given
            } else {
                Confirmation::Ask
            };
            let own_admin_room = if yes_this_room {
                OwnAdminRoom::Included
            } else {
                OwnAdminRoom::Spare
            };
            Command::Upgrade(upgrade_words(
                &upgrade.room,
                upgrade.how,
                confirmation,
                own_admin_room,
            )?)
        }
        Verb::Adopt {
            room,
            policies,
            yes,
        } => Command::Upgrade(UpgradeCommand {
            room: reference::room(&room)?,
            options: UpgradeOptions {
                method: Some(MethodChoice::Adopt),
                policies,
                ..UpgradeOptions::default()
            },
            when: None,
            confirmation: if yes {
                Confirmation::Given
            } else {
                Confirmation::Ask
            },
        }),
        Verb::Plan(upgrade) => {
            let (room, how) = (&upgrade.room, upgrade.how);
            let wanted = upgrade_words(room, how, Confirmation::PlanOnly, OwnAdminRoom::Spare)?;
            Command::Upgrade(wanted)
        }
        Verb::Space {
            space,
            how,
            only,
            skip,
            from,
            yes,
        } => {
            let confirmation = if yes {
                Confirmation::Given
            } else {
                Confirmation::Ask
            };
            space_command(&space, how, &only, &skip, from.as_ref(), confirmation)?
        }
        Verb::Confirm { id } => Command::Confirm(reference::work(&id)?),
        Verb::Cancel { id } => Command::Cancel(reference::work(&id)?),
        Verb::Pause { id } => Command::Pause(id.as_deref().map(reference::work).transpose()?),
        Verb::Resume { id } => Command::Resume(id.as_deref().map(reference::work).transpose()?),
        Verb::Status { job } => {
            Command::Status(job.as_deref().map(reference::job_or_room).transpose()?)
        }
        Verb::List { all: true } => Command::List(ListScope::All),
        Verb::List { all: false } => Command::List(ListScope::Recent),
        Verb::Retry { id } => Command::Retry(reference::work(&id)?),
        Verb::Verify { job } => Command::Verify(reference::job_or_room(&job)?),
        Verb::Stragglers { job } => Command::Stragglers(reference::job_or_room(&job)?),
        Verb::Ping { job, when } => {
            Command::Ping(reference::job_or_room(&job)?, ping::command(&when)?)
        }
        Verb::Rooms { space } => Command::Rooms(space.as_deref().map(reference::room).transpose()?),
        Verb::Report { id } => Command::Report(reference::work(&id)?),
        Verb::Doctor {
            lift_limits: true, ..
        } => Command::Doctor(DoctorAction::LiftLimits),
        Verb::Doctor {
            power: Some(room), ..
        } => Command::Doctor(DoctorAction::TakePower(reference::room(&room)?)),
        Verb::Doctor { .. } => Command::Doctor(DoctorAction::Look),
        Verb::Help { command } => {
            Command::Help(command.as_deref().map(grammar::topic).transpose()?)
        }
    })
}

fn space_command(
    space: &str,
    words: HowWords,
    only: &[String],
    skip: &[String],
    from: Option<&String>,
    confirmation: Confirmation,
) -> Result<Command, Problem> {
    if words.review {
        return Err(Problem::ReviewOfSpace);
    }
    let rooms = |words: &[String]| -> Result<Vec<RoomRef>, Problem> {
        words.iter().map(|word| reference::room(word)).collect()
    };
    let (only, skip) = (rooms(only)?, rooms(skip)?);
    let from = version(from.into_iter())?;
    let upgrade = upgrade_words(space, words, confirmation, OwnAdminRoom::Spare)?;
    Ok(Command::Space(SpaceCommand {
        space: upgrade.room,
        options: upgrade.options,
        when: upgrade.when,
        only,
        skip,
        from,
        confirmation,
    }))
}

fn upgrade_words(
    room: &str,
    words: HowWords,
    confirmation: Confirmation,
    own_admin_room: OwnAdminRoom,
) -> Result<UpgradeCommand, Problem> {
    let room = reference::room(room)?;
    let when = match (&words.at, &words.wait) {
        (None, None) if words.announce => return Err(Problem::AnnounceNeedsStart),
        (None, None) => None,
        (Some(at), None) => Some(when::at(at)?),
        (None, Some(wait)) => Some(when::within(wait)?),
        (Some(_), Some(_)) => return Err(Problem::AtAndIn),
    };
    let options = UpgradeOptions {
        version: version(words.version.iter().chain(&words.version_option))?,
        method: words.method,
        creators: creators(&words.creator)?,
        reason: reason(words.reason)?,
        invite: words.invite,
        join_rule: words.join_rule,
        policies: words.policies,
        room_type: words.room_type,
        review: if words.review {
            Review::Wanted
        } else {
            Review::Skip
        },
        own_admin_room,
        ping: words.ping.as_deref().map(ping::option).transpose()?,
        start: None,
        announce: if words.announce {
            Announce::Wanted
        } else {
            Announce::Silent
        },
    };
    if words.review && words.method == Some(MethodChoice::Server) {
        return Err(Problem::ReviewNeedsStaged);
    }
    Ok(UpgradeCommand {
        room,
        options,
        when,
        confirmation,
    })
}

/// The version, which may be given by position and by option as long as both say the same.
fn version<'a>(given: impl Iterator<Item = &'a String>) -> Result<Option<RoomVersionId>, Problem> {
    let mut version: Option<RoomVersionId> = None;
    for word in given {
        // ruma also takes upper case, which the grammar of the specification does not
        // (https://spec.matrix.org/v1.16/rooms/#room-version-grammar).
        let next = RoomVersionId::try_from(word.as_str())
            .ok()
            .filter(|id| !id.as_str().contains(|c: char| c.is_ascii_uppercase()))
            .ok_or_else(|| Problem::BadVersion { word: word.into() })?;
        match &version {
            Some(first) if *first != next => {
                return Err(Problem::TwoVersions {
                    first: first.as_str().into(),
                    second: next.as_str().into(),
                });
            }
            _ => version = Some(next),
        }
    }
    Ok(version)
}

fn creators(words: &[String]) -> Result<Vec<OwnedUserId>, Problem> {
    if words.len() > MAX_CREATORS {
        return Err(Problem::TooManyCreators { given: words.len() });
    }
    let mut creators = Vec::new();
    for word in words {
        let user = reference::user(word)?;
        if !creators.contains(&user) {
            creators.push(user);
        }
    }
    Ok(creators)
}

fn reason(text: Option<String>) -> Result<Option<String>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let text = text.trim();
    let chars = text.chars().count();
    if chars > MAX_REASON_CHARS {
        return Err(Problem::ReasonTooLong { chars });
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}
