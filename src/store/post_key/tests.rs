use super::*;

/// Ids of old rooms have colons in them.
#[test]
#[expect(clippy::too_many_lines, reason = "a row per key")]
fn every_key_has_its_text_and_reads_back() {
    let event = || OwnedEventId::try_from("$e:x:8").unwrap();
    let room = |id: &str| OwnedRoomId::try_from(id).unwrap();
    let job = || WorkKey {
        command: event(),
        room: None,
    };
    let child = || WorkKey {
        command: event(),
        room: Some(room("!r:x:8")),
    };
    let question = |asked, work| Question {
        asked,
        work,
        hash: "abc".to_owned(),
    };
    let plan = |shown_before| question(Asked::Plan { shown_before }, job());
    let campaign = |shown_before| question(Asked::Campaign { shown_before }, job());
    let review = || question(Asked::Review, child());
    let report = |phase, work, asked| PostKey::Report { phase, work, asked };
    let tombstone = |event, stays| PostKey::Tombstone {
        event,
        stays,
        told: room("!a:x:8"),
    };
    let since: Timestamp = "2026-11-25T22:56:58.786179068Z".parse().unwrap();
    for (key, text) in [
        (PostKey::Question(plan(0)), "plan:$e:x:8:abc"),
        (
            PostKey::Question(question(Asked::Plan { shown_before: 12 }, child())),
            "plan12:$e:x:8.!r:x:8:abc",
        ),
        (PostKey::Question(review()), "review:$e:x:8.!r:x:8:abc"),
        (PostKey::Question(campaign(0)), "campaign:$e:x:8:abc"),
        (PostKey::Question(campaign(1)), "campaign1:$e:x:8:abc"),
        (PostKey::Choice(Choice::Yes, plan(0)), "yes:plan:$e:x:8:abc"),
        (
            PostKey::Choice(Choice::No, review()),
            "no:review:$e:x:8.!r:x:8:abc",
        ),
        (
            PostKey::ChoiceGone(Choice::Yes, campaign(2)),
            "unyes:campaign2:$e:x:8:abc",
        ),
        (
            PostKey::ChoiceGone(Choice::No, plan(0)),
            "unno:plan:$e:x:8:abc",
        ),
        (PostKey::Acknowledged(event()), "ack:$e:x:8"),
        (PostKey::AcknowledgedGone(event()), "unack:$e:x:8"),
        (PostKey::Ended(event()), "end:$e:x:8"),
        (PostKey::Reply(event()), "reply:$e:x:8"),
        (PostKey::Rooms(event()), "rooms:$e:x:8"),
        (PostKey::Picture(event()), "picture:$e:x:8"),
        (
            PostKey::Record(event(), RecordFormat::Txt),
            "record:$e:x:8:txt",
        ),
        (
            PostKey::Record(event(), RecordFormat::Json),
            "record:$e:x:8:json",
        ),
        (PostKey::Planning(event()), "planning:$e:x:8"),
        (PostKey::Progress(job()), "progress:$e:x:8"),
        (PostKey::Progress(child()), "progress:$e:x:8.!r:x:8"),
        (report(Phase::Done, job(), 0), "done:$e:x:8:0"),
        (report(Phase::Stuck, child(), 3), "stuck:$e:x:8.!r:x:8:3"),
        (
            PostKey::SecondRoom(child(), room("!s:x:8")),
            "second:$e:x:8.!r:x:8:!s:x:8",
        ),
        (PostKey::SecondRoom(job(), room("!s")), "second:$e:x:8:!s"),
        (
            PostKey::Announcement(child(), 1),
            "announcement:$e:x:8.!r:x:8:1",
        ),
        (PostKey::CalledOff(job()), "called-off:$e:x:8"),
        (PostKey::Late(event()), "late:$e:x:8"),
        (PostKey::Unchecked(job(), 17), "unchecked:$e:x:8:17"),
        (PostKey::PingRefused(job()), "ping-refused:$e:x:8"),
        (
            PostKey::FollowUpEnded(2, child()),
            "followed:2:$e:x:8.!r:x:8",
        ),
        (
            PostKey::CampaignFollowUpEnded(CampaignId(1), 4),
            "followed:C1:4",
        ),
        (
            PostKey::SetAside(SetAside::Panicked, WorkId::Job(JobId(7))),
            "panicked:7",
        ),
        (
            PostKey::SetAside(SetAside::Unreadable, WorkId::Campaign(CampaignId(7))),
            "unreadable:C7",
        ),
        (tombstone(Some(event()), None), "tombstone:$e:x:8:!a:x:8"),
        (tombstone(None, None), "tombstone::!a:x:8"),
        (
            tombstone(Some(event()), Some(Stays::Power)),
            "tombstone:$e:x:8:Power:!a:x:8",
        ),
        (
            tombstone(None, Some(Stays::NotPredecessor)),
            "tombstone::NotPredecessor:!a:x:8",
        ),
        (
            PostKey::Replaced {
                told: room("!a:x:8"),
                since,
            },
            "replaced:!a:x:8:2026-11-25T22:56:58.786179068Z",
        ),
        (
            PostKey::Lost {
                room: room("!r:x:8"),
                told: room("!a:x:8"),
                at: 1_795_647_414,
            },
            "lost:!r:x:8:!a:x:8:1795647414",
        ),
        (
            PostKey::RateLimited {
                about: Unasked::Unreadable,
                told: room("!a:x:8"),
                hour: 498_790,
                nth: 2,
            },
            "unreadable:!a:x:8:498790:2",
        ),
        (
            PostKey::RateLimited {
                about: Unasked::Invitation,
                told: room("!a"),
                hour: -1,
                nth: 0,
            },
            "invitation:!a:-1:0",
        ),
    ] {
        assert_eq!(key.to_string(), text);
        assert_eq!(text.parse(), Ok(key), "{text}");
    }
    for unknown in ["", "plan", "plan:$e", "done:$e", "hello:$e:1", "ack:e"] {
        assert!(unknown.parse::<PostKey>().is_err(), "{unknown}");
    }
}

#[test]
fn a_key_names_the_command_that_its_work_comes_from() {
    for (key, command) in [
        ("plan:$old:x.org:ab", Some("$old:x.org")),
        ("done:$space.!a:x:0", Some("$space")),
        ("ack:$new", Some("$new")),
        ("lost:!r:x:8:!a:x:8:1795647414", None),
    ] {
        let key: PostKey = key.parse().unwrap();
        assert_eq!(key.command().map(EventId::as_str), command, "{key}");
    }
}
