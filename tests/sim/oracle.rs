//! Whether the promises of the design were kept, told from the world and, where the promise is about a
//! job's end, from the bot's database.
//!
//! Authority, order and continuity (P4, P5, P11) are watched at every event; the others are checked
//! when it is quiet. Nothing in here asks the bot why it did something.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use roomlift::job::{Action, Entry, Job, Output, Phase, State, Step, StepEvent, WaitReason};
use roomlift::store::{Filter, Store};
use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde_json::Value;

use crate::life::Shared;
use crate::place::{Place, SECRET};
use crate::sim::{End, body};
use crate::watch::Watching;
use crate::world::{Event, Levels, Room, World};

/// How old a look at somebody's power may be when the bot acts on it: a few requests under latency.
const AUTHORITY_MAX_AGE: SignedDuration = SignedDuration::from_secs(5);

/// The level that the configuration asks for.
const COMMAND_LEVEL: i64 = 50;

/// How long an address may lead nowhere while it is moved: clients can only remove it and make it again,
/// and a doubtful answer in between is waited out.
const GAP_MAX: SignedDuration = SignedDuration::from_secs(30);

/// What is wrong with such an address.
const LEADS_NOWHERE: &str = "an address leads nowhere";

/// How soon `help` and its like are answered where nothing is in the way.
const PROMPT: SignedDuration = SignedDuration::from_secs(1);

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Broken {
    /// Its number in the design, section 1.
    pub(crate) promise: u8,
    /// In what way: the same words for the same fault.
    pub(crate) kind: &'static str,
    /// Where.
    pub(crate) what: String,
}

/// What a scenario knows and the world does not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "a list of what a scene knows"
)]
pub(crate) struct Expect {
    /// Nothing happens that an upgrade may fail at: each that was confirmed has to be done.
    pub(crate) all_done: bool,
    /// Nothing happens that an upgrade may fail at, though it may be blocked, cancelled or dropped.
    pub(crate) none_fails: bool,
    /// Nothing happens that may delay an answer.
    pub(crate) prompt: bool,
    /// What the bot wrote down of times cannot be compared with those of the server.
    pub(crate) clock_jumps: bool,
}

/// Whoever checks the promises.
#[derive(Clone)]
pub(crate) struct Oracle {
    broken: Arc<Mutex<BTreeSet<Broken>>>,
    watched: Arc<Mutex<Watched>>,
    pub(crate) expect: Expect,
}

/// Power that people took away.
struct Taken {
    room: OwnedRoomId,
    user: String,
    /// What was left.
    level: i64,
    /// When, in the server's stream.
    stream: u64,
}

/// What is remembered while the world goes on.
#[derive(Default)]
struct Watched {
    /// Rooms before anything happened.
    before: BTreeMap<OwnedRoomId, Room>,
    listed: BTreeSet<OwnedRoomId>,
    taken: Vec<Taken>,
    /// What is missing at the moment, and since when.
    gaps: BTreeMap<(&'static str, String), Timestamp>,
    /// How long the bot was away after kills, all together.
    away: SignedDuration,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Oracle {
    /// Watches a world from now on.
    pub(crate) fn watch(world: &mut World, place: &Place) -> Self {
        let watched = Watched {
            before: world.rooms.clone(),
            listed: world.listed.clone(),
            taken: Vec::new(),
            gaps: BTreeMap::new(),
            away: SignedDuration::ZERO,
        };
        let oracle = Self {
            broken: Arc::default(),
            watched: Arc::new(Mutex::new(watched)),
            expect: Expect::default(),
        };
        let (watching, at) = (oracle.clone(), place.clone());
        world.watchers.on_event(move |world, event| {
            watching.see(world, &at, event);
            Watching::Still
        });
        let (watching, at) = (oracle.clone(), place.clone());
        world
            .watchers
            .on_addresses(move |world| watching.see_addresses(world, &at));
        oracle
    }

    pub(crate) fn broken(&self) -> BTreeSet<Broken> {
        held(&self.broken).clone()
    }

    fn note(&self, promise: u8, kind: &'static str, what: impl Into<String>) {
        held(&self.broken).insert(Broken {
            promise,
            kind,
            what: what.into(),
        });
    }

    /// Forgets what happened so far: people did it before the bot came.
    pub(crate) fn forget(&self) {
        held(&self.broken).clear();
    }

    /// The bot was killed, and nothing runs for this long.
    pub(crate) fn killed(&self, away: SignedDuration) {
        held(&self.watched).away += away;
    }

    /// The process ended by itself.
    pub(crate) fn process_ended(&self, why: &str) {
        self.note(13, "the process ended", why);
    }

    /// An event of anybody.
    fn see(&self, world: &World, place: &Place, event: &Event) {
        if event.sender == place.bot {
            self.see_authority(world, place, event);
            self.see_links(world, place, event);
            self.see_order(world, place, event);
        } else if event.kind == "m.room.power_levels" {
            self.see_demotions(event);
        }
    }

    /// P4, P5: the bot changes nothing before somebody said yes who may.
    fn see_authority(&self, world: &World, place: &Place, event: &Event) {
        let is_chat = admin_rooms(world, place).contains(&event.room)
            && !matches!(
                event.kind.as_str(),
                "m.room.tombstone" | "m.room.power_levels"
            );
        let is_own_membership =
            event.kind == "m.room.member" && event.state_key.as_deref() == Some(place.bot.as_str());
        if is_chat || is_own_membership {
            return;
        }
        let said = yes(world, place);
        if said.is_empty() {
            self.note(
                4,
                "changed before a yes",
                format!("{} in {}", event.kind, event.room),
            );
        }
    }

    /// P5: when an upgrade began, somebody who had said yes was allowed to.
    fn check_authority(&self, world: &World, place: &Place, job: &Job) {
        let begun = job.log.iter().rev().find_map(|(at, entry)| match entry {
            Entry::Step {
                step: Step::Snapshot,
                event: StepEvent::Started,
            } => Some(*at),
            _ => None,
        });
        if self.expect.clock_jumps {
            return;
        }
        // One that began and was denied has asked nothing of the server.
        let acted = job.log.iter().any(|(_, entry)| {
            matches!(
                entry,
                Entry::Step {
                    event: StepEvent::Called { .. },
                    ..
                }
            ) || matches!(
                entry,
                Entry::Step {
                    step: Step::Switch,
                    event: StepEvent::Succeeded { .. }
                }
            )
        });
        let Some(begun) = begun.filter(|_| acted) else {
            return;
        };
        let said = yes(world, place);
        let may = |yes: &Yes| {
            // A campaign has begun with its first room.
            let holds = job.request.campaign.is_some() || begun <= yes.to;
            yes.from <= begun && holds && may_command(world, &yes.room, &yes.by, begun)
        };
        if !said.iter().any(may) {
            self.note(
                5,
                "nobody who said yes may",
                format!("#{} at {begun}", job.id),
            );
        }
        let sees = |room: &OwnedRoomId| {
            let room = world.rooms.get(room);
            room.is_some_and(|room| was_in(room, &place.bot, begun))
        };
        if !admin_rooms(world, place).iter().any(sees) {
            self.note(
                5,
                "the bot was in no admin room",
                format!("#{} at {begun}", job.id),
            );
        }
    }

    /// P11: a space lists the old room or the new one; other rooms let their members in.
    fn see_links(&self, world: &World, place: &Place, event: &Event) {
        let lineage = lineage(world, &place.room);
        if event.kind == "m.space.child" && event.room == place.space {
            let space = &world.rooms[&place.space];
            let is_listed = |room: &OwnedRoomId| {
                space
                    .content("m.space.child", room.as_str())
                    .and_then(|link| link.get("via")?.as_array())
                    .is_some_and(|via| !via.is_empty())
            };
            let was_listed = held(&self.watched).before[&place.space]
                .content("m.space.child", place.room.as_str())
                .is_some();
            if was_listed && !lineage.iter().any(is_listed) {
                self.note(11, "the space lists neither room", place.room.to_string());
            }
        }
        if event.kind == "m.room.join_rules" && event.room == place.guarded {
            let allow = event.content.get("allow").cloned().unwrap_or_default();
            let named = |room: &OwnedRoomId| allow.to_string().contains(room.as_str());
            if !lineage.iter().any(named) {
                self.note(
                    11,
                    "the other room lets members of neither in",
                    allow.to_string(),
                );
            }
        }
        if event.kind == "m.room.canonical_alias" && lineage.contains(&event.room) {
            let shows = |room: &OwnedRoomId| {
                let shown = world.rooms[room].content("m.room.canonical_alias", "");
                shown.is_some_and(|shown| shown.contains_key("alias"))
            };
            let showed = held(&self.watched).before[&place.room]
                .content("m.room.canonical_alias", "")
                .is_some();
            let missing = showed && !lineage.iter().any(shows);
            self.gap(
                world,
                missing,
                "neither room shows its address",
                place.room.as_str(),
            );
        }
    }

    /// P11: as long as an address leads nowhere, nothing else is done about its room.
    fn see_order(&self, world: &World, place: &Place, event: &Event) {
        // What the server does by itself, and what is done about other rooms at the same time.
        let of_others = ["m.room.canonical_alias", "m.room.member", "m.space.parent"];
        let is_open = held(&self.watched)
            .gaps
            .keys()
            .any(|(kind, _)| *kind == LEADS_NOWHERE);
        if is_open
            && !of_others.contains(&event.kind.as_str())
            && lineage(world, &place.room).contains(&event.room)
        {
            let what = format!("{} in {}", event.kind, event.room);
            self.note(11, "something was done while an address led nowhere", what);
        }
    }

    /// P11: an address leads to the old room or the new one; the directory has one of them.
    fn see_addresses(&self, world: &World, place: &Place) {
        let lineage = lineage(world, &place.room);
        for alias in [&place.alias, &place.second_alias] {
            let leads_to = world.aliases.get(alias).map(|address| &address.room);
            self.gap(world, leads_to.is_none(), LEADS_NOWHERE, alias.as_str());
            if leads_to.is_some_and(|room| !lineage.contains(room)) {
                self.note(11, "an address leads elsewhere", alias.to_string());
            }
        }
        let was_listed = held(&self.watched).listed.contains(&place.room);
        if was_listed && !lineage.iter().any(|room| world.listed.contains(room)) {
            self.note(11, "the directory has neither room", place.room.to_string());
        }
    }

    /// Something that has to be there at every instant is missing, or is there again.
    fn gap(&self, world: &World, missing: bool, kind: &'static str, what: &str) {
        let key = (kind, what.to_owned());
        if missing {
            held(&self.watched).gaps.entry(key).or_insert(world.now);
            return;
        }
        let mut watched = held(&self.watched);
        let longest = GAP_MAX + watched.away + world.turned_away;
        if let Some(since) = watched.gaps.remove(&key)
            && world.now.duration_since(since) > longest
        {
            self.note(11, kind, format!("{} for {:?}", key.1, world.now - since));
        }
    }

    /// P12: remembers what people take away.
    fn see_demotions(&self, event: &Event) {
        let Some(before) = &event.before else { return };
        let (old, new) = (
            Levels::read(before, BTreeSet::new()),
            Levels::read(&event.content, BTreeSet::new()),
        );
        let mut watched = held(&self.watched);
        for (user, level) in &old.users {
            let left = new.users.get(user).copied().unwrap_or(new.users_default);
            if left < *level {
                watched.taken.push(Taken {
                    room: event.room.clone(),
                    user: user.clone(),
                    level: left,
                    stream: event.stream,
                });
            } else if left > *level {
                watched
                    .taken
                    .retain(|taken| taken.room != event.room || taken.user != *user);
            }
        }
    }

    /// Checks all that can be told at the end.
    pub(crate) fn end(&self, shared: &Shared, place: &Place, store: &Store, end: End) {
        let world = shared.world();
        let jobs = jobs(place, store);
        for (job, state) in &jobs {
            self.check_rooms(&world, place, job, &jobs);
            self.check_authority(&world, place, job);
            self.check_end(job, state, end);
            if state.phase == Phase::Done {
                self.check_nothing_lost(&world, place, job, state);
                self.check_nothing_regained(&world, place, job, state);
            }
            if matches!(
                state.phase,
                Phase::Failed | Phase::Cancelled | Phase::Expired | Phase::Closed
            ) {
                self.check_no_trace(&world, place, job, state, &jobs);
            }
        }
        let gaps = std::mem::take(&mut held(&self.watched).gaps);
        for ((kind, what), since) in gaps {
            self.note(11, kind, format!("{what} since {since}, for good"));
        }
        self.check_chat(&world, place, &jobs, end);
        self.check_secrets(&world, place, store);
    }

    /// P2: one successor, and nothing orphaned.
    fn check_rooms(&self, world: &World, place: &Place, job: &Job, jobs: &[(Job, State)]) {
        let old = &job.request.old_room;
        let made = successors(world, old);
        let living: Vec<_> = made
            .iter()
            .filter(|room| room.creator() == Some(&*place.bot) && !room.members("join").is_empty())
            .collect();
        if living.len() > 1 {
            let ids: Vec<_> = living.iter().map(|room| room.id.as_str()).collect();
            self.note(2, "a second room", format!("{old}: {ids:?}"));
        }
        let Some(room) = world.rooms.get(old) else {
            return;
        };
        let tombstone = room.event("m.room.tombstone", "");
        if let Some(tombstone) = tombstone.filter(|event| event.sender == place.bot) {
            let leads = tombstone.text("replacement_room");
            if !made.iter().any(|room| Some(room.id.as_str()) == leads) {
                self.note(
                    2,
                    "the old room leads to no successor",
                    format!("{leads:?}"),
                );
            }
            for room in living.iter().filter(|room| Some(room.id.as_str()) != leads) {
                self.note(2, "a room that nothing leads to", room.id.to_string());
            }
        } else if jobs
            .iter()
            .filter(|(other, _)| other.request.old_room == *old)
            .all(|(_, state)| state.phase.is_end() && state.phase != Phase::Done)
        {
            for room in &living {
                self.note(6, "a room was left behind", room.id.to_string());
            }
        }
    }

    /// P3, P8: every job ends, or waits for something that is said.
    fn check_end(&self, job: &Job, state: &State, end: End) {
        let at_rest = match state.phase {
            // Who paused it may be allowed to resume it no more: the status says what it waits for.
            Phase::Running if state.next_action() == Action::AwaitResume => true,
            // Nobody in the admin room lets the bot in.
            Phase::Running if matches!(state.waiting, Some((_, WaitReason::NotInAdminRoom))) => {
                true
            }
            Phase::Planning | Phase::Running | Phase::RollingBack => end == End::Busy,
            _ => true,
        };
        if !at_rest {
            self.note(
                3,
                "a job stopped half-way",
                format!("#{} {:?}", job.id, state.phase),
            );
        }
        let is_done = matches!(
            state.phase,
            Phase::Done | Phase::Closed | Phase::Cancelled | Phase::Expired
        );
        let failed = matches!(state.phase, Phase::Failed | Phase::Stuck);
        if (self.expect.all_done && !is_done) || (self.expect.none_fails && failed) {
            let problem = state.problem.clone().unwrap_or_default();
            self.note(
                8,
                "an upgrade was not done",
                format!("#{} {:?}: {problem}", job.id, state.phase),
            );
        }
    }

    /// P7: what is not as it was is a to-do, or was named in the plan.
    fn check_nothing_lost(&self, world: &World, place: &Place, job: &Job, state: &State) {
        let todos = match state.outputs.get(&Step::Verify) {
            Some(Output::Verified { todos, .. }) => todos.len(),
            _ => 0,
        };
        let Some(new) = state.new_room().and_then(|room| world.rooms.get(room)) else {
            self.note(2, "a job is done without a room", job.id.to_string());
            return;
        };
        let lost = lost(world, place, job, new, &held(&self.watched));
        if todos == 0 && !lost.is_empty() {
            self.note(7, "lost without a word", format!("#{}: {lost:?}", job.id));
        }
    }

    /// P12: what was taken away stays taken.
    fn check_nothing_regained(&self, world: &World, place: &Place, job: &Job, state: &State) {
        let Some(new) = state.new_room().and_then(|room| world.rooms.get(room)) else {
            return;
        };
        let levels = Levels::of(new);
        let old = &world.rooms[&job.request.old_room];
        let closed = old.closed_at();
        for taken in &held(&self.watched).taken {
            let user = &taken.user;
            let has = levels
                .users
                .get(user)
                .copied()
                .unwrap_or(levels.users_default);
            let raised = raised_by_people(new, place, user);
            // What people change in a room that is closed is not about the new one.
            let counts = taken.room == new.id || (taken.room == old.id && taken.stream < closed);
            if counts && has > taken.level && !raised {
                self.note(
                    12,
                    "power came back",
                    format!("{user}: {} -> {has}", taken.level),
                );
            }
        }
        for event in new.of_kind("m.room.member") {
            let user = event.state_key.as_deref().unwrap_or_default();
            let banned = old
                .event("m.room.member", user)
                .filter(|event| event.text("membership") == Some("ban") && event.stream < closed);
            if banned.is_some() && matches!(event.text("membership"), Some("join" | "invite")) {
                self.note(12, "somebody banned is in again", user.to_owned());
            }
        }
    }

    /// P6: of an upgrade that ended before its switch nothing is to be seen.
    fn check_no_trace(
        &self,
        world: &World,
        place: &Place,
        job: &Job,
        state: &State,
        jobs: &[(Job, State)],
    ) {
        let old = &job.request.old_room;
        let others = jobs.iter().any(|(other, state)| {
            other.id != job.id
                && other.request.old_room == *old
                && !matches!(state.phase, Phase::Expired | Phase::Closed | Phase::Planned)
        });
        let before = held(&self.watched).before.get(old).cloned();
        let (Some(room), Some(before)) = (world.rooms.get(old), before) else {
            return;
        };
        if others {
            return;
        }
        let new = room.events.iter().skip(before.events.len());
        let by_bot = new.filter(|event| event.sender == place.bot && event.state_key.is_some());
        // Rooms around it may have been upgraded.
        let of_others = [
            "m.room.member",
            "m.space.child",
            "m.space.parent",
            "m.room.join_rules",
        ];
        for event in by_bot.filter(|event| !of_others.contains(&event.kind.as_str())) {
            let what = format!("#{} {:?}: {}", job.id, state.phase, event.kind);
            self.note(6, "the old room was changed", what);
        }
    }

    /// P1, P3: each command is answered once; nothing is said twice; marks are right.
    fn check_chat(&self, world: &World, place: &Place, jobs: &[(Job, State)], end: End) {
        for id in admin_rooms(world, place) {
            let room = &world.rooms[&id];
            let mut texts: BTreeMap<(String, String), usize> = BTreeMap::new();
            for event in room.events.iter().filter(|event| event.sender == place.bot) {
                let is_edit = matches!(event.relation(), Some(("m.replace", _)));
                if let Some(text) = body(event).filter(|_| !is_edit) {
                    let key = (
                        event.answers().unwrap_or_default().to_owned(),
                        text.to_owned(),
                    );
                    *texts.entry(key).or_default() += 1;
                }
            }
            for ((_, text), times) in texts.iter().filter(|(_, times)| **times > 1) {
                let start: String = text.chars().take(60).collect();
                self.note(3, "said twice", format!("{times} times: {start}"));
            }
            if end == End::Quiet && room.membership(&place.bot) == "join" {
                self.check_answers(world, place, room, jobs);
            }
        }
        for (room, before) in &held(&self.watched).before {
            if before.membership(&place.bot) != "join" || admin_rooms(world, place).contains(room) {
                continue;
            }
            let notices = world.rooms[room].events.iter().filter(|event| {
                event.sender == place.bot
                    && body(event).is_some_and(|text| text.contains("This room has moved"))
            });
            let notices = notices.count();
            if notices > 1 {
                self.note(3, "said twice", format!("{notices} notices in {room}"));
            }
        }
    }

    fn check_answers(&self, world: &World, place: &Place, room: &Room, jobs: &[(Job, State)]) {
        for command in commands(room, place) {
            let answer = room.events.iter().find(|event| {
                event.sender == place.bot
                    && (event.answers() == Some(command.id.as_str())
                        || event.relation() == Some(("m.annotation", command.id.as_str())))
            });
            let Some(answer) = answer else {
                let text = body(command).unwrap_or_default();
                self.note(1, "a command was never answered", text);
                continue;
            };
            let waited = SignedDuration::from_millis(answer.at - command.at);
            if self.expect.prompt && waited > PROMPT {
                let text = body(command).unwrap_or_default();
                self.note(14, "answered late", format!("{text}: {waited:?}"));
            }
            // A mark that the server refuses is given up.
            if world.refused_words {
                continue;
            }
            let marks: Vec<_> = room
                .events
                .iter()
                .filter(|event| {
                    event.sender == place.bot
                        && event.kind == "m.reaction"
                        && event.redacted_because.is_none()
                        && event.relation() == Some(("m.annotation", command.id.as_str()))
                })
                .filter_map(|event| event.content.get("m.relates_to")?.get("key")?.as_str())
                .collect();
            let job = jobs
                .iter()
                .find(|(job, _)| job.request.command_event == command.id);
            let is_over = job.is_none_or(|(_, state)| state.phase.is_end());
            if is_over
                && marks.contains(&"⏳")
                && jobs.iter().all(|(_, state)| state.phase.is_end())
            {
                let text = body(command).unwrap_or_default();
                self.note(3, "a mark stayed", format!("{text}: {marks:?}"));
            }
            if job.is_some_and(|(_, state)| state.phase == Phase::Done) && !marks.contains(&"✅") {
                self.note(3, "a mark is missing", format!("{marks:?}"));
            }
        }
    }

    /// P9: the secret is nowhere.
    fn check_secrets(&self, world: &World, place: &Place, store: &Store) {
        for room in world.rooms.values() {
            let said = room.events.iter().filter(|event| event.sender == place.bot);
            for event in said.filter(|event| event.json().to_string().contains(SECRET)) {
                self.note(9, "a secret was said", event.kind.clone());
            }
        }
        let all = store.jobs(&place.admin_room, Filter::All, 1_000_000);
        if format!("{all:?}").contains(SECRET) {
            self.note(9, "a secret is in the database", "");
        }
    }
}

/// All jobs, with their states.
pub(crate) fn jobs(place: &Place, store: &Store) -> Vec<(Job, State)> {
    let rooms = place.second_admin_room.iter().chain([&place.admin_room]);
    let mut jobs = Vec::new();
    let mut moved = Vec::new();
    for room in rooms {
        let now = store.admin_room_now(room).expect("the database is read");
        moved.push(room.clone());
        moved.push(now);
    }
    moved.sort();
    moved.dedup();
    for room in moved {
        // Newest first; those of campaigns are not among them.
        let mut of_room = store
            .jobs(&room, Filter::All, 1_000_000)
            .expect("the database is read");
        for campaign in store
            .campaigns(&room, Filter::All, 1_000_000)
            .expect("the database is read")
        {
            for child in store.children(campaign.id).expect("the database is read") {
                of_room.extend(store.job(child.id).expect("the database is read"));
            }
        }
        jobs.extend(of_room);
    }
    jobs.sort_by_key(|job| job.id);
    jobs.dedup_by_key(|job| job.id);
    let is_readable = |job: &Job| {
        let unreadable = |(_, entry): &(_, _)| matches!(entry, Entry::Unreadable { .. });
        !job.log.iter().any(unreadable)
    };
    jobs.into_iter()
        .filter(is_readable)
        .map(|job| {
            let state = job.state().expect("a log that makes sense");
            (job, state)
        })
        .collect()
}

/// Rooms that replace one, by whomever.
fn successors<'a>(world: &'a World, old: &RoomId) -> Vec<&'a Room> {
    world
        .rooms
        .values()
        .filter(|room| room.predecessor() == Some(old.as_str()))
        .collect()
}

/// A room and those that replace it.
fn lineage(world: &World, old: &OwnedRoomId) -> Vec<OwnedRoomId> {
    let mut all = vec![old.clone()];
    let mut at = 0;
    while let Some(room) = all.get(at).cloned() {
        all.extend(successors(world, &room).iter().map(|room| room.id.clone()));
        at += 1;
    }
    all
}

/// The admin rooms, and what they became.
fn admin_rooms(world: &World, place: &Place) -> Vec<OwnedRoomId> {
    let rooms = place.second_admin_room.iter().chain([&place.admin_room]);
    rooms.flat_map(|room| lineage(world, room)).collect()
}

/// Commands of people that were meant to be carried out.
fn commands<'a>(room: &'a Room, place: &Place) -> Vec<&'a Event> {
    room.events
        .iter()
        .filter(|event| {
            event.sender != place.bot
                && event.redacted_because.is_none()
                && event.relation().is_none()
                && body(event).is_some_and(|text| text.starts_with("!upgrade"))
        })
        .collect()
}

/// A yes that somebody gave.
struct Yes {
    room: OwnedRoomId,
    by: OwnedUserId,
    from: Timestamp,
    /// When it was taken back.
    to: Timestamp,
}

/// Every yes that somebody gave.
fn yes(world: &World, place: &Place) -> Vec<Yes> {
    let mut all = Vec::new();
    for id in admin_rooms(world, place) {
        let Some(room) = world.rooms.get(&id) else {
            continue;
        };
        for event in room.events.iter().filter(|event| event.sender != place.bot) {
            let typed = body(event).is_some_and(|text| {
                text.starts_with("!upgrade")
                    && (text.contains("--yes")
                        || text.contains("confirm")
                        || text.contains("sweep"))
            });
            let mark = event
                .content
                .get("m.relates_to")
                .and_then(|to| to.get("key"));
            let reacted = event.kind == "m.reaction"
                && mark
                    .and_then(Value::as_str)
                    .is_some_and(|key| key.starts_with('✅'));
            // One that is taken back or edited later held until then.
            let removal = event.redacted_because.as_ref();
            let removal = removal.and_then(|by| room.events.iter().find(|event| event.id == *by));
            let edit = room.events.iter().find(|edit| {
                edit.sender == event.sender
                    && edit.relation() == Some(("m.replace", event.id.as_str()))
            });
            let back = edit.or(removal);
            // What is left of an event that was taken back does not say what it was.
            let was_yes = ["m.reaction", "m.room.message"].contains(&&*event.kind);
            if typed || reacted || (was_yes && removal.is_some()) {
                let moment =
                    |event: &Event| Timestamp::from_millisecond(event.at).unwrap_or_default();
                all.push(Yes {
                    room: id.clone(),
                    by: event.sender.clone(),
                    from: moment(event),
                    to: back.map_or(Timestamp::MAX, moment),
                });
            }
        }
    }
    all
}

/// Whether somebody may command at a moment, or might until shortly before.
fn may_command(world: &World, room: &RoomId, user: &UserId, at: Timestamp) -> bool {
    let Some(room) = world.rooms.get(room) else {
        return false;
    };
    let since = (at - AUTHORITY_MAX_AGE).as_millisecond();
    let until = at.as_millisecond();
    // Every state that held in that time.
    let levels = room
        .events
        .iter()
        .filter(|event| event.kind == "m.room.power_levels" && event.at <= until);
    let old = levels.clone().take_while(|event| event.at < since).last();
    let recent = levels.filter(|event| event.at >= since);
    let level = |event: &Event| {
        Levels::read(&event.content, Levels::of(room).creators).of_user(user) >= COMMAND_LEVEL
    };
    old.into_iter().chain(recent).any(level) && was_in(room, user, at)
}

/// Whether somebody was in a room at a moment, or until shortly before.
fn was_in(room: &Room, user: &UserId, at: Timestamp) -> bool {
    let since = (at - AUTHORITY_MAX_AGE).as_millisecond();
    let until = at.as_millisecond();
    let members = room.events.iter().filter(|event| {
        event.kind == "m.room.member"
            && event.state_key.as_deref() == Some(user.as_str())
            && event.at <= until
    });
    let was = members.clone().take_while(|event| event.at < since).last();
    let now = members.filter(|event| event.at >= since);
    let joined = |event: &Event| event.text("membership") == Some("join");
    was.into_iter().chain(now).any(joined)
}

/// Whether people gave somebody power in a room.
fn raised_by_people(room: &Room, place: &Place, user: &str) -> bool {
    room.events.iter().any(|event| {
        event.kind == "m.room.power_levels"
            && event.sender != place.bot
            && event
                .content
                .get("users")
                .and_then(|users| users.get(user))
                .is_some()
    })
}

/// Levels of the new room that keep out whoever could speak in the old one, or invite to it.
fn raised_levels(place: &Place, job: &Job, new: &Room, watched: &Watched) -> Vec<String> {
    let level = |room: &Room, key: &str| {
        let levels = room.content("m.room.power_levels", "");
        let level = levels.and_then(|levels| levels.get(key)?.as_i64());
        level.unwrap_or(0)
    };
    let levels = new.event("m.room.power_levels", "");
    let by_bot = levels.is_some_and(|levels| levels.sender == place.bot);
    let before = watched.before.get(&job.request.old_room);
    let before = before.filter(|before| by_bot && before.successor().is_none());
    let Some(before) = before.filter(|_| new.successor().is_none()) else {
        return Vec::new();
    };
    ["events_default", "invite"]
        .into_iter()
        .filter(|key| level(new, key) > level(before, key))
        .map(|key| format!("level of {key}"))
        .collect()
}

/// What the new room does not have, of what the old one had and nobody but the bot touched since.
fn lost(world: &World, place: &Place, job: &Job, new: &Room, watched: &Watched) -> Vec<String> {
    let mut lost = Vec::new();
    let old = &world.rooms[&job.request.old_room];
    let by_people = |room: &Room, kind: &str, key: &str| {
        room.event(kind, key)
            .is_some_and(|event| event.sender != place.bot && event.at > watched_since(watched))
    };
    for event in old.state_before(old.closed_at()) {
        let key = event.state_key.as_deref().unwrap_or_default();
        let kept = matches!(
            event.kind.as_str(),
            "m.room.name"
                | "m.room.topic"
                | "m.room.guest_access"
                | "m.room.history_visibility"
                | "m.room.server_acl"
                | "m.room.encryption"
                | "org.example.beds"
                | "m.space.parent"
        );
        // The space may have been upgraded as well.
        let parents = lineage(world, &place.space);
        let is_parent = event.kind == "m.space.parent"
            && parents
                .iter()
                .any(|space| new.content(&event.kind, space.as_str()).is_some());
        if is_parent || event.content.is_empty() {
            continue;
        }
        let ours = new.content(&event.kind, key);
        if kept && ours != Some(&event.content) && !by_people(new, &event.kind, key) {
            lost.push(format!("{} {key}", event.kind));
        }
        let is_ban = event.kind == "m.room.member" && event.text("membership") == Some("ban");
        let is_theirs = new
            .event("m.room.member", key)
            .is_some_and(|event| event.sender != place.bot);
        if is_ban
            && new
                .event("m.room.member", key)
                .and_then(|event| event.text("membership"))
                != Some("ban")
            && !is_theirs
        {
            lost.push(format!("ban of {key}"));
        }
    }
    lost.extend(raised_levels(place, job, new, watched));
    if job.request.old_room != place.room {
        return lost;
    }
    // It may have been upgraded once more by now.
    let later = lineage(world, &new.id);
    for alias in [&place.alias, &place.second_alias] {
        let leads_to = world.aliases.get(alias);
        if !leads_to.is_some_and(|address| later.contains(&address.room)) {
            lost.push(alias.to_string());
        }
    }
    let is_listed = later.iter().any(|room| world.listed.contains(room));
    if watched.listed.contains(&place.room) && !is_listed {
        lost.push("listing".to_owned());
    }
    let links = |room: &OwnedRoomId| {
        let spaces = lineage(world, &place.space);
        spaces.iter().any(|space| {
            let link = world.rooms[space].content("m.space.child", room.as_str());
            link.and_then(|link| link.get("via")?.as_array())
                .is_some_and(|via| !via.is_empty())
        })
    };
    if watched.before[&place.space]
        .content("m.space.child", place.room.as_str())
        .is_some()
        && !later.iter().any(links)
    {
        lost.push("link of the space".to_owned());
    }
    let rules = world.rooms[&place.guarded].content("m.room.join_rules", "");
    let rules = Value::Object(rules.cloned().unwrap_or_default()).to_string();
    let opens = later.iter().any(|room| rules.contains(room.as_str()));
    if !opens && !by_people(&world.rooms[&place.guarded], "m.room.join_rules", "") {
        lost.push("way into the other room".to_owned());
    }
    lost
}

fn watched_since(watched: &Watched) -> i64 {
    let rooms = watched.before.values();
    let last = rooms.filter_map(|room| room.events.last());
    last.map(|event| event.at).max().unwrap_or(i64::MIN)
}
