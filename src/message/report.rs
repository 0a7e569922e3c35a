//! How a job ended: what was done, what is left to do, or why it did not happen.

use ruma::{OwnedServerName, RoomId};

use super::doc::{Doc, Span, own, room};
use super::{count, finding, todo};
use crate::job::log::Again;
use crate::job::{Encryption, Job, Output, Phase, Plan, State, Step, Todo};
use crate::model::{JobId, Method, Text, WorkId};
use crate::room::change::Change;
use crate::room::finding::Finding;

/// To-dos that are left.
pub(crate) fn todos(state: &State) -> &[Todo] {
    match state.outputs.get(&Step::Verify) {
        Some(Output::Verified { todos, .. }) => todos,
        _ => &[],
    }
}

/// The end of a job; `None` while it has not ended.
pub(crate) fn report(job: &Job, state: &State) -> Option<Text> {
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
                "The old room already points to the new one, so there is no way back. Once that is fixed, type `!upgrade retry {id}`."
            ))
            .finish(),
        Phase::Failed => {
            let not_done = titled("Not done, upgrade");
            let not_done = match state.again {
                Again::MayHelp => not_done.line(&[Span::Text(problem)]).say(&format!(
                    "The old room is unchanged. To try again, type `!upgrade retry {id}`."
                )),
                Again::Useless => not_done
                    .line(&own(&problem))
                    .say("The old room is unchanged."),
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
            let expired = titled("Plan expired")
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
pub(crate) fn unreadable(id: WorkId) -> Text {
    Doc::new()
        .say(&format!(
            "I cannot read what is stored of {}, so I leave it alone; everything else continues. Was it \
             written by a newer version of Roomlift? Then run that one. My log says more.",
            named(id)
        ))
        .finish()
}

/// Work that a bug stopped.
pub(crate) fn panicked(id: WorkId, told: &str) -> Text {
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
pub(crate) fn second_room(job: &Job, room: &RoomId) -> Text {
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

/// A finished upgrade: first what is left to do, and folded below that what was done.
fn done(job: &Job, state: &State, label: &str) -> Option<Text> {
    let plan = state.plan.as_ref()?;
    let new_room = state.new_room()?;
    let via: Vec<OwnedServerName> = vec![plan.intent.bot.server_name().to_owned()];
    let (todos, for_others) = (todos(state), for_others(plan));
    let left = match todos.len() {
        0 => String::new(),
        number => format!(", {}", count(number, "to-do", "to-dos")),
    };
    let mut title = vec![Span::Bold(format!(
        "✅ Upgrade #{} is done{left}: ",
        job.id
    ))];
    title.extend(room(label, new_room, &via));
    title.push(Span::Text(format!(
        " is now version {}.",
        plan.intent.version
    )));
    let mut doc = Doc::new().line(&title);
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
    for finding in &for_others {
        doc = doc.line(&finding::line(finding, &plan.intent.bot));
    }
    if todos.is_empty() {
        let rest = if for_others.is_empty() { "" } else { " else" };
        doc = doc.say(&format!("Nothing{rest} is left to do."));
    } else {
        doc = todo::list_of_room(doc, todos, &plan.intent.bot, new_room).say(&format!(
            "I recheck by myself and shorten this list. To check now, type `!upgrade verify {}`.",
            job.id
        ));
    }
    let done: Vec<_> = what_was_done(job, state, plan)
        .iter()
        .map(|line| own(line))
        .collect();
    Some(doc.folded("What was done", &done).finish())
}

/// What was compared, where the old room points, and what became of the pinned messages.
fn what_was_done(job: &Job, state: &State, plan: &Plan) -> Vec<String> {
    let mended: usize = state
        .outputs
        .values()
        .map(|output| match output {
            Output::Closed { made, .. } => *made,
            _ => 0,
        })
        .sum();
    let found = match plan.intent.method {
        Method::Server if mended == 0 => "; the server had left nothing out.".to_owned(),
        Method::Server => format!(
            ", and added {} that the server had left out.",
            count(mended, "thing", "things")
        ),
        Method::Staged => " with the old room.".to_owned(),
        Method::Adopt if mended == 0 => " with the old room; nothing was missing.".to_owned(),
        Method::Adopt => format!(
            " with the old room, and added {}.",
            count(mended, "missing thing", "missing things")
        ),
    };
    let mut lines = vec![format!(
        "I compared settings, power levels, bans, addresses, directory and spaces{found}"
    )];
    let is_redirected = |todo: &Todo| matches!(todo.change, Change::Tombstone { .. });
    if !todos(state).iter().any(is_redirected) {
        let old_room = &job.request.old_room;
        lines.push(format!("The old room `{old_room}` points to the new one."));
    }
    lines.extend(pinned(state));
    lines
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
fn pinned(state: &State) -> Vec<String> {
    let Some(Output::Pinned {
        count: posted,
        lost,
        unreadable,
    }) = state.outputs.get(&Step::Pins)
    else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    if *posted > 0 {
        lines.push(format!(
            "I reposted and pinned {} of the old room.",
            count(*posted, "pinned message", "pinned messages")
        ));
    }
    let not_posted = count(*lost, "pinned message", "pinned messages");
    if let Some(why) = unreadable {
        lines.push(format!(
            "I did not repost {not_posted} of the old room: {}. Post and pin them again once people are here.",
            finding::unreadable(*why)
        ));
    } else if *lost > 0 {
        lines.push(format!(
            "{not_posted} of the old room could not be reposted; they can still be read there."
        ));
    }
    lines
}

/// A finished upgrade could not be looked at again, for hours.
pub(crate) fn unchecked(id: JobId, problem: &str) -> Text {
    Doc::new()
        .line(&[
            Span::Bold(format!("I could not check #{id} again: ")),
            Span::Text(problem.to_owned()),
        ])
        .say(&format!(
            "The to-dos may still be open. `!upgrade verify {id}` checks again."
        ))
        .finish()
}
