//! No statement reads more where more has happened: what is finished costs nothing.
//!
//! Every statement of this module is run on a database that is full of other work, and SQLite itself counts
//! what each one reads. A statement that is not run here is found by its text in the source.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use ruma::events::room::member::MembershipState;
use rusqlite::StatementStatus;
use rusqlite::trace::{TraceEvent, TraceEventCodes};

use super::super::*;
use super::campaigns::{campaign, request, turn};
use crate::model::{CampaignId, Device, TakenBack, WorkId};
use crate::room::moves::MemberEvent;
use crate::room::state::{Listing, RoomState};

/// Rows of each kind that have nothing to do with what is asked.
const ROWS: u32 = 20_000;

/// What one run of a statement may do: a few rows of its own, each with some instructions.
const STEPS_MAX: i32 = 1_500;

/// Rows that one run may read without an index.
const SCANNED_MAX: i32 = 50;

/// What is to look at all there is, and how often that happens.
const WHOLE: [(&str, &str); 1] = [("PRAGMA quick_check", "somebody asks for a checkup")];

/// The same as one statement, whatever values it is run with.
#[derive(Default, Clone, Copy)]
struct Cost {
    steps: i32,
    scanned: i32,
}

thread_local! {
    static COSTS: RefCell<BTreeMap<String, Cost>> = RefCell::default();
}

fn count(event: TraceEvent<'_>) {
    let TraceEvent::Profile(statement, _) = event else {
        return;
    };
    // A statement that is kept for the next time adds up.
    let runs = statement.get_status(StatementStatus::Run).max(1);
    let of_one = |status| statement.get_status(status) / runs;
    COSTS.with_borrow_mut(|costs| {
        let cost = costs.entry(statement.sql().into_owned()).or_default();
        cost.steps = cost.steps.max(of_one(StatementStatus::VmStep));
        cost.scanned = cost.scanned.max(of_one(StatementStatus::FullscanStep));
    });
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn room(name: &str) -> OwnedRoomId {
    format!("!{name}:x").try_into().unwrap()
}

fn event(name: &str) -> OwnedEventId {
    format!("${name}").try_into().unwrap()
}

fn received(name: &str, kind: ReceivedKind) -> Received {
    Received {
        event_id: event(name),
        room_id: room("admin"),
        sender: "@maria:x".try_into().unwrap(),
        sent_at: at(900),
        kind,
    }
}

fn message(name: &str) -> Received {
    let kind = ReceivedKind::Message {
        body: "!upgrade help".to_owned(),
        formatted_body: None,
        device: Device::Unknown,
        thread: None,
    };
    received(name, kind)
}

fn key(name: &str) -> PostKey {
    PostKey::Reply(event(name))
}

fn out(name: &str, words: &str) -> Outgoing {
    Outgoing {
        key: key(name),
        room_id: room("admin"),
        post: Post::Message {
            text: crate::model::Text {
                plain: words.to_owned(),
                html: words.to_owned(),
            },
            reply_to: Some(event("said")),
        },
    }
}

fn snapshot() -> Snapshot {
    Snapshot {
        room: RoomState::new(room("a"), []),
        aliases: [].into(),
        listing: Listing::Private,
        referrers: Vec::new(),
        replaced: [].into(),
        known_successors: [].into(),
    }
}

/// As many rows of each kind as a bot has after years, and as many that wait for other rooms.
#[expect(clippy::too_many_lines, reason = "an entry for each kind of row")]
fn fill(db: &Connection) {
    let Write::CreateJob(job) = request("!other:x", "$other", None) else {
        panic!("a job");
    };
    let Write::CreateCampaign(space) = campaign() else {
        panic!("a campaign");
    };
    let (job, space) = (json(&job).unwrap(), json(&space).unwrap());
    let kind = json(&message("x").kind).unwrap();
    let post = json(&out("x", "x").post).unwrap();
    let rows =
        format!("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT {ROWS})");
    for (into, values) in [
        (
            "inbox (event_id, seq, room_id, sender, sent_at, kind, handled_at)",
            format!("'$in' || i, 100 + i, '!admin:x', '@maria:x', 1, '{kind}', 1000000"),
        ),
        (
            "inbox (event_id, seq, room_id, sender, sent_at, kind, handled_at)",
            format!(
                "'$invited' || i, {ROWS} + 100 + i, '!' || i || ':x', '@maria:x', 1,
                 '{{\"type\":\"invitation\"}}', 1000000"
            ),
        ),
        (
            "inbox (event_id, seq, room_id, sender, sent_at, kind, handled_at)",
            format!(
                "'$liked' || i, {ROWS} * 2 + 100 + i, '!admin:x', '@maria:x', 1,
                 json_object('type', 'reaction', 'key', 'x', 'to', '$to' || i), 1000000"
            ),
        ),
        (
            "campaign (command_event, admin_room, space, request, state, created_at, touched_at)",
            format!(
                "'$space' || i, '!admin:x', '!space' || i || ':x', '{space}', 'done', 1, 1000000"
            ),
        ),
        (
            "campaign_log (campaign_id, seq, at, entry)",
            "1000 + i, 0, 1, '{}'".to_owned(),
        ),
        (
            "job (command_event, admin_room, old_room, request, state, due_at, created_at, summary,
                  touched_at)",
            format!(
                "'$job' || i, '!admin:x', '!old' || i || ':x', '{job}', 'done', NULL, 1,
                 json_object('new_room', '!new' || i || ':x'), 1000000"
            ),
        ),
        (
            "job (command_event, admin_room, old_room, request, state, due_at, created_at, summary,
                  campaign_id, touched_at)",
            format!(
                "'$part' || i, '!admin:x', '!part' || i || ':x', '{job}', 'done',
                 iif(i % 2, NULL, 9000000), 1, NULL, 100 + i, 1000000"
            ),
        ),
        (
            "job_log (job_id, seq, at, entry)",
            "1000 + i, 0, 1, '{}'".to_owned(),
        ),
        ("snapshot (job_id, body)", "100 + i, '{}'".to_owned()),
        (
            "outbox (key, room_id, post, txn, revision, sent_revision, event_id, due_at,
                     settled_at)",
            format!(
                "'sent' || i, '!admin:x', '{post}', 'x.' || i, 0, 0, '$sent' || i, NULL, 1000000"
            ),
        ),
        // In a few rooms that the bot is not in any more: some were tried, and some wait behind those.
        (
            "outbox (key, room_id, post, txn, attempts, due_at)",
            format!(
                "'unsent' || i, '!gone' || i % 5 || ':x', '{post}', 'x.' || i,
                 iif(i < 200, i % 10, 0), iif(i < 200, 9000000, 1)"
            ),
        ),
        (
            "followed_room (room_id, gaps_read)",
            "'!old' || i || ':x', 1".to_owned(),
        ),
        ("followed_room (room_id)", "'!new' || i || ':x'".to_owned()),
        (
            "follow_up (job_id, old_room, new_room, restless)",
            "100 + i, '!old' || i || ':x', '!new' || i || ':x', 0".to_owned(),
        ),
        (
            "member (room_id, user_id, presence, change)",
            "'!old' || i || ':x', '@maria:x', '\"joined\"', 0".to_owned(),
        ),
        (
            "admin_room_moved (old_room, new_room)",
            "'!former' || i || ':x', '!later' || i || ':x'".to_owned(),
        ),
        (
            "pruned (kind, id, admin_room, at)",
            "'job', -i, '!admin:x', 1".to_owned(),
        ),
        (
            "marker (room_id, event_id)",
            "'!marked' || i || ':x', '$x'".to_owned(),
        ),
    ] {
        db.execute(
            &format!("{rows} INSERT INTO {into} SELECT {values} FROM n"),
            [],
        )
        .unwrap_or_else(|error| panic!("{into}: {error}"));
    }
}

/// A campaign with a job, and another job.
fn asked() -> [Write; 3] {
    [
        campaign(),
        request("!a:x", "$space", Some(turn(0))),
        request("!b:x", "$b", None),
    ]
}

/// A database with a little work of each kind, and a great deal of other work.
fn full(folder: &tempfile::TempDir) -> Store {
    let store = Store::open(&folder.path().join("db")).unwrap();
    store.commit(at(1000), &asked()).unwrap();
    {
        let db = store.db.lock().unwrap();
        db.execute_batch(
            "PRAGMA foreign_keys = OFF;
             INSERT INTO sqlite_sequence (name, seq) VALUES ('outbox', 100) ON CONFLICT DO NOTHING;
             UPDATE sqlite_sequence SET seq = 100;",
        )
        .unwrap();
        fill(&db);
        db.pragma_update(None, "foreign_keys", "ON").unwrap();
        db.trace_v2(TraceEventCodes::SQLITE_TRACE_PROFILE, Some(count));
    }
    store
}

/// What a bot does all day, each thing at least once.
fn a_day(store: &Store) {
    receive(store);
    store.commit(at(1000), &asked()).unwrap();
    jobs(store);
    campaigns(store);
    posts(store);
    members(store);
    records(store);
    store.counts().unwrap();
    store.instance().unwrap();
    store.facts().unwrap();
    store.admin_room_now(&room("admin")).unwrap();
    store.has_come_to(&room("admin")).unwrap();
    let moves = Write::MoveAdminRoom {
        from: room("before"),
        to: room("after"),
    };
    store.commit(at(1000), &[moves]).unwrap();
}

/// Work that ended long ago, among all that ended later.
fn records(store: &Store) {
    super::records::ended(store, "ended", at(10));
    let campaign = CampaignId(1);
    let writes = [
        Write::Job(Append {
            id: JobId(1),
            expected: 0,
            entries: vec![job::Entry::Superseded],
        }),
        Write::Campaign(Append {
            id: campaign,
            expected: 1,
            entries: vec![campaign::Entry::Superseded],
        }),
    ];
    store.commit(at(10), &writes).unwrap();
    let woken = store.campaign_woken(campaign).unwrap();
    store.campaign_rests(campaign, woken, None).unwrap();
    super::records::prune(store, at(1000), at(50));
    let id = WorkId::Job(JobId(-1));
    assert!(store.pruned(id, &room("admin")).unwrap().is_some());
    assert!(store.last_pruned(&room("admin")).unwrap().is_some());
}

fn receive(store: &Store) {
    let reaction = ReceivedKind::Reaction {
        to: event("posted"),
        key: "x".to_owned(),
    };
    let events = [
        message("said"),
        message("edited"),
        message("removed"),
        received("liked", reaction),
        received("invited", ReceivedKind::Invitation),
    ];
    let withdrawn = [
        Withdrawal {
            event: event("edited"),
            by: "@maria:x".try_into().unwrap(),
            how: TakenBack::Edited,
        },
        Withdrawal {
            event: event("removed"),
            by: "@maria:x".try_into().unwrap(),
            how: TakenBack::Removed,
        },
    ];
    let marker = (room("admin"), event("said"));
    store.receive(&events, &withdrawn, &[marker]).unwrap();
    store.marker(&room("admin")).unwrap();
    assert!(store.was_received(&event("said")).unwrap());
    assert_eq!(store.received(Lane::Commands, 500).unwrap().len(), 4);
    assert_eq!(store.received(Lane::Invitations, 500).unwrap().len(), 1);
    store.was_invited_before(&events[4]).unwrap();
    store.thread_of(&event("said")).unwrap();
    let handled = [Write::Counts(event("said")), Write::Handled(event("said"))];
    store.commit(at(1000), &handled).unwrap();
}

fn jobs(store: &Store) {
    let (id, old) = (JobId(2), room("b"));
    let writes = [
        Write::Job(Append {
            id,
            expected: 0,
            entries: vec![super::campaigns::wait()],
        }),
        Write::Snapshot {
            job: id,
            snapshot: Box::new(snapshot()),
        },
    ];
    store.commit(at(1000), &writes).unwrap();
    assert!(store.job(id).unwrap().is_some());
    assert!(store.job_of_key(&"$b".parse().unwrap()).unwrap().is_some());
    assert_eq!(store.jobs_for_room(&old).unwrap().len(), 1);
    store.active_job(&old).unwrap();
    assert_eq!(store.open_plans(&old).unwrap().len(), 1);
    assert!(
        store
            .latest_job_for(&room("admin"), &old)
            .unwrap()
            .is_some()
    );
    let active = store.jobs(&room("admin"), Filter::Active, 50).unwrap();
    assert_eq!(active.len(), 1);
    store.jobs(&room("admin"), Filter::All, 10).unwrap();
    store.due_work(at(1000)).unwrap();
    store.clock_turned_back(id, at(1000)).unwrap();
    store.next_work_due(at(1000)).unwrap();
    assert!(store.snapshot(id).unwrap().is_some());
    store.set_aside(WorkId::Job(id), at(2000)).unwrap();
    store
        .set_aside(WorkId::Campaign(CampaignId(1)), at(2000))
        .unwrap();
}

fn campaigns(store: &Store) {
    let id = CampaignId(1);
    let entries = vec![campaign::Entry::Waiting {
        until: at(2000),
        reason: job::WaitReason::Unreachable,
        refused: Vec::new(),
    }];
    let append = Write::Campaign(Append {
        id,
        expected: 0,
        entries,
    });
    store.commit(at(1000), &[append]).unwrap();
    assert!(store.campaign(id).unwrap().is_some());
    assert!(
        store
            .campaign_of_command(&event("space"))
            .unwrap()
            .is_some()
    );
    let active = store.campaigns(&room("admin"), Filter::Active, 50).unwrap();
    assert_eq!(active.len(), 1);
    store.campaigns(&room("admin"), Filter::All, 10).unwrap();
    assert_eq!(store.open_campaigns(&room("space")).unwrap().len(), 1);
    assert_eq!(store.children(id).unwrap().len(), 1);
    store.open_jobs_of(id).unwrap();
    store.wake_campaigns(at(1000)).unwrap();
    let woken = store.campaign_woken(id).unwrap();
    store.campaign_rests(id, woken, None).unwrap();
}

fn posts(store: &Store) {
    let hold = Write::Hold {
        key: key("held"),
        until: at(1001),
    };
    let writes = [
        Write::Enqueue(out("said", "words")),
        Write::Revise(out("said", "other words")),
        Write::Enqueue(out("held", "words")),
        hold,
        Write::Withdraw(key("held")),
    ];
    store.commit(at(1000), &writes).unwrap();
    let due = store.due_posts(at(1000), 100, &HashSet::new()).unwrap();
    let due: Vec<_> = due
        .iter()
        .filter(|post| post.room_id == "!admin:x")
        .collect();
    assert_eq!(due.len(), 1);
    let (id, revision) = (due[0].id, due[0].revision);
    store.next_post_due().unwrap();
    for sent in [
        Sent::Later(at(1001)),
        Sent::Away(at(1001)),
        Sent::PostedBefore(event("posted")),
        Sent::Posted(event("posted")),
        Sent::GivenUp,
        Sent::Instead {
            post: Box::new(out("said", "words").post),
            at: at(1000),
            end: Some(End {
                of: event("said"),
                emoji: "x",
            }),
        },
        Sent::GivenUp,
    ] {
        store.post_tried(id).unwrap();
        store.post_sent(at(1000), id, revision, &sent).unwrap();
    }
    store.posted_event(&key("said")).unwrap();
    store.is_enqueued(&key("said")).unwrap();
    store.is_waiting(&key("said")).unwrap();
    store.post_of_event(&event("posted")).unwrap();
    store.thread_of(&event("liked")).unwrap();
}

fn members(store: &Store) {
    let job = JobId(2);
    let follow = Write::Follow {
        job,
        old_room: room("b"),
        new_room: room("new"),
        members: vec!["@maria:x".try_into().unwrap()],
    };
    store.commit(at(1000), &[follow]).unwrap();
    let joined = MemberEvent {
        user: "@maria:x".try_into().unwrap(),
        sender: "@maria:x".try_into().unwrap(),
        membership: MembershipState::Join,
        before: None,
        at: at(900),
    };
    let told = [(room("new"), joined.clone())];
    store
        .note_members(at(1000), &told, &[room("b")].into())
        .unwrap();
    store.members_may_be_missing().unwrap();
    store.followed_of([room("b")].iter()).unwrap();
    assert!(store.is_restless(job).unwrap());
    assert!(store.is_followed(job).unwrap());
    let unread = store.unread_members(&room("b")).unwrap().unwrap();
    store
        .put_members(at(1000), &room("b"), unread, &[joined])
        .unwrap();
    assert_eq!(store.seats(&room("b")).unwrap().len(), 1);
    assert_eq!(store.restless_jobs().unwrap(), [job]);
    store.look_at_members(job).unwrap();
    assert_eq!(store.restless_jobs().unwrap(), []);
    store.commit(at(1000), &[Write::Unfollow(job)]).unwrap();
}

#[test]
fn no_statement_reads_more_where_more_has_happened() {
    let folder = tempfile::tempdir().unwrap();
    let store = full(&folder);
    a_day(&store);
    let costs = COSTS.take();
    let is_whole = |sql: &str| WHOLE.iter().any(|(whole, _)| sql.starts_with(whole));
    let dear: Vec<_> = costs
        .iter()
        .filter(|(sql, _)| !is_whole(sql))
        .filter(|(_, cost)| cost.steps > STEPS_MAX || cost.scanned > SCANNED_MAX)
        .map(|(sql, cost)| format!("{} steps, {} scanned: {sql}", cost.steps, cost.scanned))
        .collect();
    assert!(
        dear.is_empty(),
        "{} are dear:\n{}",
        dear.len(),
        dear.join("\n")
    );
    let unused: Vec<_> = WHOLE
        .iter()
        .filter(|(whole, _)| !costs.keys().any(|sql| sql.starts_with(whole)))
        .collect();
    assert!(unused.is_empty(), "no such statement: {unused:?}");

    let unseen: Vec<_> = texts()
        .into_iter()
        .filter(|text| !costs.keys().any(|sql| is_part_of(text, sql)))
        .collect();
    assert!(
        unseen.is_empty(),
        "`a_day` does not run these statements:\n{}",
        unseen.join("\n")
    );
}

/// Whether a text of the source, perhaps with gaps that are filled in, stands in a statement.
fn is_part_of(text: &str, sql: &str) -> bool {
    let mut rest = sql;
    text.split('{').enumerate().all(|(number, piece)| {
        let piece = match number {
            0 => piece,
            _ => piece.split_once('}').map_or(piece, |(_, piece)| piece),
        };
        let found = rest.split_once(piece);
        rest = found.map_or("", |(_, after)| after);
        found.is_some()
    })
}

/// Every text of this module's source that is SQL, or a part of it.
fn texts() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
    let mut texts = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        // Copies are made by people, and of the whole database.
        if name == "tests.rs" || name == "backup.rs" || path.is_dir() {
            continue;
        }
        let source = std::fs::read_to_string(&path).unwrap();
        let source: Vec<_> = source
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect();
        let source = source.join("\n").replace("\\\"", "'");
        let quoted = source.split('"').skip(1).step_by(2);
        texts.extend(quoted.filter(|text| is_sql(text)).map(ToOwned::to_owned));
    }
    assert!(texts.len() > 60, "{} texts", texts.len());
    texts
}

fn is_sql(text: &str) -> bool {
    [
        "SELECT", "INSERT", "UPDATE", "DELETE", "WHERE", "PRAGMA", "?1",
    ]
    .iter()
    .any(|word| text.contains(word))
}
