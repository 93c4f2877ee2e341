use std::str::FromStr as _;

use super::*;

fn timing(cron: &str, zone: &str) -> Timing {
    Timing::new(cron.parse().unwrap(), zone.parse().unwrap(), Overlap::Skip, Timing::CATCH_UP)
}

fn at(text: &str) -> Timestamp {
    Timestamp::from_millis(u64::try_from(jiff::Timestamp::from_str(text).unwrap().as_millisecond()).unwrap())
}

/// The next ticks, by the zone's clock.
fn next(cron: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    let timing = timing(cron, zone);
    let named = format!("[{}]", timing.zone().as_str());
    let shown = |tick| timing.zone().show(tick).trim_end_matches(&named).to_owned();
    timing.ticks(at(after)).take(count).map(shown).collect()
}

#[test]
fn a_time_that_the_clock_skips_comes_the_moment_after() {
    for (cron, zone, after, wanted) in [
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2027-03-27T00:00:00Z",
            &["2027-03-27T02:30:00+01:00", "2027-03-28T03:00:00+02:00", "2027-03-29T02:30:00+02:00"][..],
        ),
        // Several of them are one tick, and so is the one that comes then anyway.
        (
            "0,30 2,3 * * *",
            "Europe/Berlin",
            "2027-03-28T00:00:00Z",
            &["2027-03-28T03:00:00+02:00", "2027-03-28T03:30:00+02:00", "2027-03-29T02:00:00+02:00"],
        ),
        (
            "0 2,14 * * *",
            "Europe/Berlin",
            "2027-03-28T00:00:00Z",
            &["2027-03-28T03:00:00+02:00", "2027-03-28T14:00:00+02:00"],
        ),
        (
            "30 2 * * *",
            "America/New_York",
            "2027-03-14T06:00:00Z",
            &["2027-03-14T03:00:00-04:00", "2027-03-15T02:30:00-04:00"],
        ),
        // Half an hour only.
        (
            "15 2 * * *",
            "Australia/Lord_Howe",
            "2027-10-02T12:00:00Z",
            &["2027-10-03T02:30:00+11:00", "2027-10-04T02:15:00+11:00"],
        ),
        (
            "0 3 * * *",
            "Pacific/Chatham",
            "2027-09-25T12:00:00Z",
            &["2027-09-26T03:45:00+13:45", "2027-09-27T03:00:00+13:45"],
        ),
    ] {
        assert_eq!(next(cron, zone, after, wanted.len()), wanted, "{cron} in {zone}");
    }
}

#[test]
fn a_time_that_the_clock_shows_twice_comes_the_first_time() {
    for (cron, zone, after, wanted) in [
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2027-10-30T12:00:00Z",
            &["2027-10-31T02:30:00+02:00", "2027-11-01T02:30:00+01:00"][..],
        ),
        (
            "*/20 2-3 * * *",
            "Europe/Berlin",
            "2027-10-30T23:30:00Z",
            &[
                "2027-10-31T02:00:00+02:00",
                "2027-10-31T02:20:00+02:00",
                "2027-10-31T02:40:00+02:00",
                "2027-10-31T03:00:00+01:00",
            ],
        ),
        (
            "30 1 * * *",
            "America/New_York",
            "2027-11-07T00:00:00Z",
            &["2027-11-07T01:30:00-04:00", "2027-11-08T01:30:00-05:00"],
        ),
        (
            "45 1 * * *",
            "Australia/Lord_Howe",
            "2027-04-03T12:00:00Z",
            &["2027-04-04T01:45:00+11:00", "2027-04-05T01:45:00+10:30"],
        ),
    ] {
        assert_eq!(next(cron, zone, after, wanted.len()), wanted, "{cron} in {zone}");
    }
}

#[test]
fn what_comes_in_every_hour_goes_with_the_clock() {
    for (cron, zone, after, wanted) in [
        (
            "30 * * * *",
            "Europe/Berlin",
            "2027-03-28T00:00:00Z",
            &["2027-03-28T01:30:00+01:00", "2027-03-28T03:30:00+02:00"][..],
        ),
        (
            "30 * * * *",
            "Europe/Berlin",
            "2027-10-30T23:00:00Z",
            &[
                "2027-10-31T01:30:00+02:00",
                "2027-10-31T02:30:00+02:00",
                "2027-10-31T02:30:00+01:00",
                "2027-10-31T03:30:00+01:00",
            ],
        ),
        (
            "*/15 * * * *",
            "Australia/Lord_Howe",
            "2027-04-03T14:40:00Z",
            &[
                "2027-04-04T01:45:00+11:00",
                "2027-04-04T01:30:00+10:30",
                "2027-04-04T01:45:00+10:30",
                "2027-04-04T02:00:00+10:30",
            ],
        ),
    ] {
        assert_eq!(next(cron, zone, after, wanted.len()), wanted, "{cron} in {zone}");
    }
}

#[test]
fn zones_without_summer_time_and_of_odd_minutes_are_as_any_other() {
    assert_eq!(next("0 6 * * *", "Asia/Kathmandu", "2027-03-28T00:00:00Z", 1), ["2027-03-28T06:00:00+05:45"]);
    assert_eq!(
        timing("0 6 * * *", "Asia/Kathmandu").next(at("2027-03-28T00:00:00Z")),
        Some(at("2027-03-28T00:15:00Z"))
    );
    assert_eq!(timing("30 2 * * *", "UTC").next(at("2027-03-28T01:00:00Z")), Some(at("2027-03-28T02:30:00Z")));
}

/// From whatever moment it is asked, also in an hour that comes twice, the next tick is the first one after it.
#[test]
fn the_next_tick_is_the_first_after_any_moment() {
    for zone in ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Chatham", "Asia/Kathmandu", "UTC"]
    {
        for cron in ["30 2 * * *", "*/7 1-3 * * *", "0,59 2,3 * * *", "*/13 * * * *", "0 * * * *", "15 0 * * SUN"] {
            for day in
                ["2027-03-13", "2027-03-27", "2027-04-03", "2027-09-25", "2027-10-02", "2027-10-30", "2027-11-06"]
            {
                let timing = timing(cron, zone);
                let from = at(&format!("{day}T00:00:00Z"));
                let until = from.after(Duration::from_secs(26 * 60 * 60));
                let ticks: Vec<Timestamp> = timing.ticks(from).take_while(|tick| *tick < until).collect();
                assert!(ticks.windows(2).all(|pair| pair[0] < pair[1]), "{cron} in {zone}");
                let mut now = from;
                while ticks.last().is_some_and(|last| now < *last) {
                    let wanted = ticks.iter().find(|tick| **tick > now).copied();
                    assert_eq!(timing.next(now), wanted, "{cron} in {zone} after {now}");
                    now = now.after(Duration::from_millis(1_207_001));
                }
            }
        }
    }
}

#[test]
fn days_of_the_month_and_of_the_week_are_as_cron_has_them() {
    for (cron, after, wanted) in [
        ("0 0 L * *", "2028-02-01T00:00:00Z", &["2028-02-29T00:00:00+00:00", "2028-03-31T00:00:00+00:00"][..]),
        ("0 0 29 2 *", "2027-01-01T00:00:00Z", &["2028-02-29T00:00:00+00:00", "2032-02-29T00:00:00+00:00"]),
        ("0 9 * * MON#1", "2027-01-05T00:00:00Z", &["2027-02-01T09:00:00+00:00"]),
        ("0 9 * * FRI#L", "2027-01-01T00:00:00Z", &["2027-01-29T09:00:00+00:00"]),
        // Of the two one is enough.
        ("0 0 13 * FRI", "2027-01-01T00:00:00Z", &["2027-01-08T00:00:00+00:00", "2027-01-13T00:00:00+00:00"]),
        ("@weekly", "2027-01-01T00:00:00Z", &["2027-01-03T00:00:00+00:00"]),
        ("0 0 * * 7", "2027-01-01T00:00:00Z", &["2027-01-03T00:00:00+00:00"]),
        ("0 0 1 jan,JUL *", "2027-01-02T00:00:00Z", &["2027-07-01T00:00:00+00:00"]),
    ] {
        assert_eq!(next(cron, "UTC", after, wanted.len()), wanted, "{cron}");
    }
}

#[test]
fn what_is_no_expression_is_told_by_its_field() {
    for (text, words) in [
        ("", "0 fields and not five"),
        ("* * * *", "4 fields and not five"),
        ("0 0 6 * * 1", "6 fields and not five"),
        ("@reboot", "`@daily`"),
        ("60 * * * *", "`60` is no minute, which is 0 to 59"),
        ("0 24 * * *", "`24` is no hour"),
        ("0 0 0 * *", "`0` is no day of the month"),
        ("0 0 * 13 *", "`13` is no month"),
        ("0 0 * * 8", "`8` is no day of the week"),
        ("MON * * * *", "`MON` is no minute"),
        ("0 0 * MON *", "`MON` is no month"),
        ("0 0 * * JAN", "`JAN` is no day of the week"),
        ("0 0 * * L", "`L` is no day of the week"),
        ("0 0 * * 5L", "`5L` is no day of the week"),
        ("0 0 15W * *", "`15W` is no day of the month"),
        ("0 0 1 * +MON", "`+MON` is no day of the week"),
        ("0 0 1 * ?", "`?` is no day of the week"),
        ("*/0 * * * *", "`*/0` is no minute"),
        ("*/90 * * * *", "`*/90` is no minute"),
        ("1,,2 * * * *", "`1,,2` is no minute"),
        ("0 22-2 * * *", "`22-2` is no hour"),
        ("5/10 * * * *", "`5/10` is no minute"),
        ("0 0 30 2 *", "never comes"),
        ("0 0 31 2,4,6,9,11 *", "never comes"),
    ] {
        let told = text.parse::<Cron>().unwrap_err();
        assert!(told.contains(words), "{text}: {told}");
    }
    assert!("1,".repeat(1_000).parse::<Cron>().is_err());
}

#[test]
fn zones_have_one_name_each_and_a_slip_is_answered_with_the_nearest() {
    assert_eq!("europe/berlin".parse::<Zone>().unwrap().as_str(), "Europe/Berlin");
    for (text, words) in [
        ("Europe/Berln", "did you mean `Europe/Berlin`?"),
        ("berlin", "did you mean `Europe/Berlin`?"),
        ("New York", "did you mean `America/New_York`?"),
        ("Mars/Olympus", "such as `Europe/Berlin`"),
        ("Etc/Unknown", "is no time zone"),
        ("", "is no time zone"),
        (&"x".repeat(100_000), "is no time zone"),
    ] {
        let told = text.parse::<Zone>().unwrap_err();
        assert!(told.contains(words) && told.len() < 300, "{told}");
    }
}

#[test]
fn a_timing_is_written_in_one_form_and_reads_back() {
    let timing = timing("0  6 * * 1-5", "Europe/Berlin");
    let json = serde_json::to_string(&timing).unwrap();
    assert_eq!(json, r#"{"schedule":"0 6 * * 1-5","zone":"Europe/Berlin","overlap":"skip","catch-up":"1h"}"#);
    assert_eq!(serde_json::from_str::<Timing>(&json).unwrap(), timing);
    assert!(serde_json::from_str::<Timing>(&json.replace("Berlin", "Nowhere")).is_err());
}
