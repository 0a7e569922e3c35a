use proptest::prelude::*;

use super::*;

/// A Tuesday noon in winter.
const NOW: &str = "2026-11-24T12:00:00Z";

fn resolved(text: &str, now: &str, default: Option<&str>) -> Result<String, String> {
    let when = at(text).map_err(|problem| problem.to_string())?;
    let start = when.resolve(now.parse().unwrap(), default);
    start
        .map(|start| format!("{} {}", start.at, start.zone))
        .map_err(|problem| problem.to_string())
}

#[test]
fn moments() {
    for (text, expected) in [
        ("2026-12-01T20:00+01:00", "2026-12-01T19:00:00Z +01:00"),
        ("2026-12-01T20:00:30+0100", "2026-12-01T19:00:30Z +01:00"),
        ("2026-12-01T20:00Z", "2026-12-01T20:00:00Z UTC"),
        ("2026-12-01t20:00:00z", "2026-12-01T20:00:00Z UTC"),
        (
            "2026-12-01 20:00 Europe/Berlin",
            "2026-12-01T19:00:00Z Europe/Berlin",
        ),
        (
            "2026-12-01T20:00 europe/berlin",
            "2026-12-01T19:00:00Z Europe/Berlin",
        ),
        (
            "2026-12-01T20:00[Europe/Berlin]",
            "2026-12-01T19:00:00Z Europe/Berlin",
        ),
        (
            "2026-12-01T20:00+01:00[Europe/Berlin]",
            "2026-12-01T19:00:00Z Europe/Berlin",
        ),
        (
            "2027-7-1 8:05 Asia/Kolkata",
            "2027-07-01T02:35:00Z Asia/Kolkata",
        ),
        ("2026-12-01 20:00 UTC", "2026-12-01T20:00:00Z UTC"),
        // Later today, and tomorrow.
        ("20:00 Europe/Berlin", "2026-11-24T19:00:00Z Europe/Berlin"),
        ("13:00 Europe/Berlin", "2026-11-25T12:00:00Z Europe/Berlin"),
        ("12:59 Europe/Berlin", "2026-11-25T11:59:00Z Europe/Berlin"),
        ("20:00-05:00", "2026-11-25T01:00:00Z -05:00"),
        // The sign of ISO 8601, and never that of POSIX.
        ("2026-12-01 20:00 UTC+2", "2026-12-01T18:00:00Z +02:00"),
        ("20:00 utc+02:30", "2026-11-24T17:30:00Z +02:30"),
        ("20:00 GMT-5", "2026-11-25T01:00:00Z -05:00"),
        ("20:00 +0200", "2026-11-24T18:00:00Z +02:00"),
        ("20:00+2", "2026-11-24T18:00:00Z +02:00"),
        ("20:00 UTC+0", "2026-11-24T20:00:00Z UTC"),
        ("20:00[UTC+2]", "2026-11-24T18:00:00Z +02:00"),
        ("20:00 EST5EDT", "2026-11-25T01:00:00Z EST5EDT"),
        // It is the next day there already.
        (
            "01:30 Pacific/Auckland",
            "2026-11-24T12:30:00Z Pacific/Auckland",
        ),
        ("0:00 UTC", "2026-11-25T00:00:00Z UTC"),
    ] {
        assert_eq!(resolved(text, NOW, None).as_deref(), Ok(expected), "{text}");
    }
    let berlin = Some("Europe/Berlin");
    assert_eq!(
        resolved("20:00", NOW, berlin).unwrap(),
        "2026-11-24T19:00:00Z Europe/Berlin"
    );
    let wait = within("1h 30m").unwrap();
    let start = wait.resolve(NOW.parse().unwrap(), berlin).unwrap();
    assert_eq!(start.at.to_string(), "2026-11-24T13:30:00Z");
    assert_eq!(start.zone, "Europe/Berlin");
}

#[test]
fn what_is_no_time_is_refused() {
    for text in [
        "",
        "25:00 UTC",
        "24:00 UTC",
        "20:60 UTC",
        "20 UTC",
        "20:00:00:00 UTC",
        "8pm UTC",
        "2026-12-01",
        "2026-12-01 UTC",
        "2026-13-01 20:00 UTC",
        "2026-02-30 20:00 UTC",
        "01.12.2026 20:00 UTC",
        "26-12-01 20:00 UTC",
        "2026-12-01 20:00 UTC UTC",
        "2026-12-01T20:00+99:00",
        "2026-12-01T20:00+",
        "2026-12-01T20:00Z[UTC",
        "tomorrow",
        "-1:00 UTC",
        "20:00 UTC [UTC]",
        "12",
        "２０:00 UTC",
    ] {
        assert!(matches!(at(text), Err(Problem::BadTime { .. })), "{text}");
    }
    assert_eq!(zone("<+02>-2"), None);
    for zone in [
        "Europe/Berln",
        "CEST",
        "Nowhere",
        "EST5EDT,M3.2.0,M11.1.0",
        "CET-1",
        "CET-1CEST",
        "XYZ+5",
        "UTC+99",
        "UTC+2:3",
    ] {
        let text = format!("20:00 {zone}");
        let word = zone.into();
        assert_eq!(at(&text), Err(Problem::UnknownZone { word }), "{zone}");
    }
    for text in ["", "2", "-1h", "soon", "99999999999999999999d"] {
        assert!(
            matches!(within(text), Err(Problem::BadDuration { .. })),
            "{text}"
        );
    }
}

#[test]
fn what_cannot_be_waited_for_is_refused() {
    let refused = |text: &str, now: &str| resolved(text, now, None).unwrap_err();
    for text in [
        "2026-11-24T12:00Z",
        "2026-11-24 13:00 Europe/Berlin",
        "1999-01-01T00:00Z",
    ] {
        assert!(refused(text, NOW).contains("in the past"), "{text}");
    }
    for text in ["2027-11-26T12:00Z", "9999-12-31T23:59-05:00"] {
        assert!(refused(text, NOW).contains("too far ahead"), "{text}");
    }
    for (text, expected) in [("99999d", TimeProblem::TooFar), ("0s", TimeProblem::Past)] {
        let wait = within(text).unwrap();
        assert_eq!(
            wait.resolve(NOW.parse().unwrap(), None),
            Err(expected),
            "{text}"
        );
    }
    insta::assert_snapshot!(refused("20:00", NOW), @r#"Which time zone do you mean? Write it behind the time, for example `--at "20:00 Europe/Berlin"`. Whoever runs me can also set one for all (`time_zone` in the configuration)."#);
    insta::assert_snapshot!(refused("2026-12-01T20:00", NOW), @r#"Which time zone do you mean? Write it behind the time, for example `--at "2026-12-01 20:00 Europe/Berlin"`. Whoever runs me can also set one for all (`time_zone` in the configuration)."#);
    insta::assert_snapshot!(refused("2026-12-01T20:00+05:00[Europe/Berlin]", NOW), @"Europe/Berlin is not at +05:00 at that time. Please leave out one of the two.");
}

#[test]
fn hours_that_are_not_there_and_hours_that_are_there_twice() {
    let refused = |text: &str, now: &str| resolved(text, now, None).unwrap_err();
    insta::assert_snapshot!(refused("2027-03-28 02:30 Europe/Berlin", NOW), @"There is no 02:30 in Europe/Berlin on that day, since the clocks are put forward. Please give another time.");
    insta::assert_snapshot!(refused("2027-10-31 02:30 Europe/Berlin", NOW), @"It is 02:30 twice in Europe/Berlin on that day, since the clocks are put back. Write `--at 2027-10-31T02:30+02:00` for the first time, or `--at 2027-10-31T02:30+01:00` for the second.");
    // Both can be written so that they mean one moment.
    for (text, expected) in [
        ("2027-10-31T02:30+02:00", "2027-10-31T00:30:00Z +02:00"),
        (
            "2027-10-31T02:30+01:00[Europe/Berlin]",
            "2027-10-31T01:30:00Z Europe/Berlin",
        ),
        (
            "2027-10-31 03:00 Europe/Berlin",
            "2027-10-31T02:00:00Z Europe/Berlin",
        ),
        (
            "2027-03-28 03:00 Europe/Berlin",
            "2027-03-28T01:00:00Z Europe/Berlin",
        ),
    ] {
        assert_eq!(resolved(text, NOW, None).as_deref(), Ok(expected), "{text}");
    }
    // The next time it is that late falls on such a night.
    let evening = "2027-03-27T20:00:00Z";
    assert!(refused("02:30 Europe/Berlin", evening).contains("There is no 02:30"));
    let evening = "2027-10-30T20:00:00Z";
    assert!(refused("02:30 Europe/Berlin", evening).contains("twice"));
    assert_eq!(
        resolved("01:30 Europe/Berlin", evening, None).unwrap(),
        "2027-10-30T23:30:00Z Europe/Berlin"
    );
}

proptest! {
    #[test]
    fn no_text_panics(text in ".*", odd in "[0-9T:+Z \\[\\]/A-z-]{0,30}") {
        for text in [text, odd] {
            for when in at(&text).into_iter().chain(within(&text)) {
                let _ = when.resolve(NOW.parse().unwrap(), Some("Europe/Berlin"));
            }
        }
    }

    #[test]
    fn whatever_is_resolved_is_still_to_come(hour in 0..24_i8, minute in 0..60_i8, now in 1_500_000_000..2_500_000_000_i64) {
        let now = Timestamp::from_second(now).unwrap();
        let when = at(&format!("{hour}:{minute:02} Europe/Berlin")).unwrap();
        if let Ok(start) = when.resolve(now, None) {
            prop_assert!(start.at > now);
            prop_assert!(start.at.duration_since(now) <= jiff::SignedDuration::from_hours(25));
        }
    }
}
