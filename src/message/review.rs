//! The new room as it is shown to moderators, before the old one leads to it.

use jiff::Timestamp;
use ruma::{OwnedUserId, RoomId};

use super::doc::{Doc, Span, own, person, room};
use super::{count, todo, until};
use crate::job::{Plan, Todo};
use crate::model::{JobId, Text};
use crate::room::state::RoomState;

/// Differences that are listed; the rest is counted.
const DIFFERENCES_SHOWN_MAX: usize = 15;

/// What there is to be looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown<'a> {
    pub new_room: &'a RoomId,
    /// What is in it.
    pub state: &'a RoomState,
    /// What differs from what it should be.
    pub differences: &'a [Todo],
    /// Moderators who could not be invited.
    pub missed: &'a [OwnedUserId],
    /// Until when there can be a yes.
    pub until: Timestamp,
}

/// The comparison, and the question.
pub(crate) fn review(id: JobId, plan: &Plan, shown: &Shown<'_>, now: Timestamp) -> Text {
    let via = [plan.intent.bot.server_name().to_owned()];
    let mut title = vec![Span::Bold(format!(
        "Upgrade #{id}: please look at the new room, "
    ))];
    title.extend(room(&plan.label, shown.new_room, &via));
    title.push(Span::Text(format!(", version {}.", plan.intent.version)));
    let state = shown
        .state
        .events
        .keys()
        .filter(|slot| slot.0 != "m.room.member" && slot.0 != "m.room.create")
        .count();
    let mut doc = Doc::new()
        .line(&title)
        .say("You are invited to it. Nobody else can join, and the old room is unchanged.")
        .say(&format!(
            "In it are {} and {}.",
            count(state, "setting", "settings"),
            count(shown.state.bans().len(), "ban", "bans")
        ));
    if shown.differences.is_empty() {
        doc = doc.say("It matches the old room.");
    } else {
        doc = doc.heading("What differs from what it should be:");
        for todo in shown.differences.iter().take(DIFFERENCES_SHOWN_MAX) {
            doc = doc.item(&todo::line(todo, &plan.intent.bot, shown.new_room));
        }
        if shown.differences.len() > DIFFERENCES_SHOWN_MAX {
            let more = shown.differences.len() - DIFFERENCES_SHOWN_MAX;
            doc = doc.item(&own(&format!("and {more} more")));
        }
    }
    for user in shown.missed {
        doc = doc.item(&[
            Span::Text("I could not invite ".to_owned()),
            person(user),
            Span::Text(".".to_owned()),
        ]);
    }
    doc.say(&format!(
        "Switch everyone over: ✅ or `!upgrade confirm {id}`. Discard the new room: ❌ or `!upgrade cancel {id}`. Without an answer I discard it in {}.",
        until(shown.until, now)
    ))
    .finish()
}
