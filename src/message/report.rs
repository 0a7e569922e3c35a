//! How a job ended: what was done, what is left to do, or why it did not happen.

use ruma::{OwnedServerName, RoomId};

use super::doc::{Doc, Span, own, room};
use super::{count, finding, todo};
use crate::job::log::Again;
use crate::job::{Encryption, Job, Output, Phase, Plan, State, Step, Todo};
use crate::model::{JobId, Method, Text, WorkId};
use crate::room::diff::Change;
use crate::room::finding::Finding;

/// To-dos that are listed; the rest is counted.
const TODOS_SHOWN_MAX: usize = 20;

/// To-dos that are left.
#[must_use]
pub fn todos(state: &State) -> &[Todo] {
    match state.outputs.get(&Step::Verify) {
        Some(Output::Verified { todos, .. }) => todos,
        _ => &[],
    }
}

/// The end of a job; `None` while it has not ended.
#[must_use]
pub fn report(job: &Job, state: &State) -> Option<Text> {
    let id = job.id;
    let label = state.plan.as_ref().map_or_else(
        || job.request.named.name.to_string(),
        |plan| plan.label.clone(),
    );
    let problem = state.problem.clone().unwrap_or_default();
    let titled = |words: &str| {
        let mut title = vec![Span::Bold(format!("{words} #{id}: "))];
        title.extend(room(&label, &job.request.old_room, &[]));
        Doc::new().line(&title)
    };
    Some(match state.phase {
        Phase::Done => done(job, state, &label)?,
        Phase::Stuck => titled("Stuck, upgrade")
            .line(&[Span::Text(problem)])
            .say(&format!(
                "The old room already leads to the new one, so there is no way back. When the \
                 cause is solved, type `!upgrade retry {id}`."
            ))
            .finish(),
        Phase::Failed => {
            let not_done = titled("Not done, upgrade");
            let not_done = match state.again {
                Again::MayHelp => not_done.line(&[Span::Text(problem)]).say(&format!(
                    "The old room is as it was. To try again, type `!upgrade retry {id}`."
                )),
                Again::Useless => not_done
                    .line(&own(&problem))
                    .say("The old room is as it was."),
                Again::Overtaken => not_done.line(&own(&problem)),
            };
            left_behind(not_done, state).finish()
        }
        Phase::Cancelled => left_behind(
            unchanged(titled("Cancelled, upgrade"), state, &problem),
            state,
        )
        .finish(),
        Phase::Expired => {
            let expired = titled("Expired, plan")
                .say("Nobody confirmed it in time, or a newer plan took its place.");
            left_behind(unchanged(expired, state, &problem), state).finish()
        }
        Phase::Planning
        | Phase::Planned
        | Phase::Running
        | Phase::InReview
        | Phase::RollingBack
        | Phase::Closed => return None,
    })
}

/// That nothing was changed, as far as that is so.
fn unchanged(doc: Doc, state: &State, problem: &str) -> Doc {
    match state.again {
        Again::Overtaken => doc.line(&own(problem)),
        Again::MayHelp | Again::Useless => doc
            .line(&[Span::Text(problem.to_owned())])
            .say("Nothing was changed."),
    }
}

/// The room that was made and could not be taken back.
fn left_behind(doc: Doc, state: &State) -> Doc {
    match state.staged_room() {
        Some(room) if state.again != Again::Overtaken => doc.line(&own(&format!(
            "I could not take back the new room: `{room}`. Nothing points to it, and the next upgrade of the \
             old room tries again."
        ))),
        _ => doc,
    }
}

fn named(id: WorkId) -> String {
    match id {
        WorkId::Job(id) => format!("upgrade #{id}"),
        WorkId::Campaign(id) => format!("campaign {id}"),
    }
}

/// Work whose log cannot be read.
#[must_use]
pub fn unreadable(id: WorkId) -> Text {
    Doc::new()
        .say(&format!(
            "I cannot read what is stored of {}, so I leave it alone; everything else continues. Was it \
             written by a newer version of Roomlift? Then run that one. My log says more.",
            named(id)
        ))
        .finish()
}

/// Work that a bug stopped.
#[must_use]
pub fn panicked(id: WorkId, told: &str) -> Text {
    Doc::new()
        .say(&format!(
            "A bug stopped {}, so I leave it alone for an hour; everything else continues. Please report \
             it, with my log.",
            named(id)
        ))
        .line(&[Span::Text(told.to_owned())])
        .finish()
}

/// The server carried out a request late, after it was asked again.
#[must_use]
pub fn second_room(job: &Job, room: &RoomId) -> Text {
    let id = job.id;
    Doc::new()
        .line(
            &[
                own(&format!("Upgrade #{id}: the server made a second room, ")),
                vec![Span::Code(room.to_string())],
                own(
                    ", as it carried out a request late whose answer was lost. I removed everybody from it \
                     and left it. Nothing leads there.",
                ),
            ]
            .concat(),
        )
        .finish()
}

fn done(job: &Job, state: &State, label: &str) -> Option<Text> {
    let plan = state.plan.as_ref()?;
    let new_room = state.new_room()?;
    let via: Vec<OwnedServerName> = vec![plan.intent.bot.server_name().to_owned()];
    let mut title = vec![Span::Bold(format!("Upgrade #{} is done: ", job.id))];
    title.extend(room(label, new_room, &via));
    title.push(Span::Text(format!(
        " is now version {}.",
        plan.intent.version
    )));
    let mut doc = Doc::new().line(&title);
    let is_redirected = |todo: &Todo| matches!(todo.change, Change::Tombstone { .. });
    if !todos(state).iter().any(is_redirected) {
        doc = doc.line(
            &[
                own("The old room "),
                vec![Span::Code(job.request.old_room.to_string())],
                own(" leads there."),
            ]
            .concat(),
        );
    }
    let mended: usize = state
        .outputs
        .values()
        .map(|output| {
            if let Output::Closed { made, .. } = output {
                *made
            } else {
                0
            }
        })
        .sum();
    doc = doc.say(&match plan.intent.method {
        Method::Server if mended == 0 => {
            "I compared settings, power levels, bans, addresses, directory and spaces; the server had \
             left nothing out."
                .to_owned()
        }
        Method::Server => format!(
            "I compared settings, power levels, bans, addresses, directory and spaces, and added \
             {} that the server had left out.",
            count(mended, "thing", "things")
        ),
        Method::Staged => {
            "I compared settings, power levels, bans, addresses, directory and spaces with the old \
             room."
                .to_owned()
        }
        Method::Adopt if mended == 0 => {
            "I compared settings, power levels, bans, addresses, directory and spaces with the old \
             room; nothing was missing."
                .to_owned()
        }
        Method::Adopt => format!(
            "I compared settings, power levels, bans, addresses, directory and spaces with the old \
             room, and added {}.",
            count(mended, "missing thing", "missing things")
        ),
    });
    doc = pinned(doc, state);
    if let Some(Output::Verified {
        encryption: Encryption::New,
        ..
    }) = state.outputs.get(&Step::Verify)
    {
        doc = doc.say(
            "The new room is encrypted, and the old one is not: whoever made the new one did that, and nobody \
             can undo it.",
        );
    }
    let for_others = for_others(plan);
    for finding in &for_others {
        doc = doc.line(&finding::line(finding, &plan.intent.bot));
    }
    let todos = todos(state);
    if todos.is_empty() {
        let rest = if for_others.is_empty() { "" } else { " else" };
        return Some(doc.say(&format!("Nothing{rest} is left to do.")).finish());
    }
    doc = doc.heading(&format!(
        "Left for you: {}",
        count(todos.len(), "thing", "things")
    ));
    for todo in todos.iter().take(TODOS_SHOWN_MAX) {
        doc = doc.item(&todo::line(todo, &plan.intent.bot, new_room));
    }
    if todos.len() > TODOS_SHOWN_MAX {
        doc = doc.item(&own(&format!("and {} more", todos.len() - TODOS_SHOWN_MAX)));
    }
    Some(
        doc.say(&format!(
            "I look again by myself and shorten this list. To check now, type `!upgrade verify {}`.",
            job.id
        ))
        .finish(),
    )
}

/// What people elsewhere have to do; whether they did it, the bot cannot see.
fn for_others(plan: &Plan) -> Vec<&Finding> {
    let findings = plan.findings.iter();
    findings
        .filter(|finding| {
            matches!(
                finding,
                Finding::PolicyServer { .. }
                    | Finding::PoliciesMove { .. }
                    | Finding::PoliciesStay { .. }
            )
        })
        .collect()
}

/// What became of the pinned messages.
fn pinned(mut doc: Doc, state: &State) -> Doc {
    let Some(Output::Pinned {
        count: posted,
        lost,
        unreadable,
    }) = state.outputs.get(&Step::Pins)
    else {
        return doc;
    };
    if *posted > 0 {
        doc = doc.say(&format!(
            "I posted and pinned {} of the old room again.",
            count(*posted, "pinned message", "pinned messages")
        ));
    }
    if let Some(why) = unreadable {
        doc = doc.say(&format!(
            "I did not post {} of the old room again: {}. Post and pin them again once people are here.",
            count(*lost, "pinned message", "pinned messages"),
            finding::unreadable(*why)
        ));
    } else if *lost > 0 {
        doc = doc.say(&format!(
            "{} of the old room could not be posted again; what they say is still to be found there.",
            count(*lost, "pinned message", "pinned messages")
        ));
    }
    doc
}

/// A finished upgrade could not be looked at again, for hours.
#[must_use]
pub fn unchecked(id: JobId, problem: &str) -> Text {
    Doc::new()
        .line(&[
            Span::Bold(format!("I could not check #{id} again: ")),
            Span::Text(problem.to_owned()),
        ])
        .say(&format!(
            "What was left to do may still be. `!upgrade verify {id}` has me look once more."
        ))
        .finish()
}
