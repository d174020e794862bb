use super::*;
use pretty_assertions::assert_eq;
use proptest::prelude::*;
use serde_json::json;

const HOUR_MS: i64 = DAY_MS / 24;

fn ms(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_millisecond()
}

fn shown(period: Period, at: &str, zone_name: Option<&str>) -> (String, String) {
    let zone = zone(zone_name).unwrap();
    let bounds = period.around(ms(at), &zone).unwrap();
    let text = |ms| {
        let moment = Timestamp::from_millisecond(ms).unwrap();
        moment.to_zoned(zone.clone()).strftime("%a %F %R").to_string()
    };
    (text(bounds.start), text(bounds.end))
}

#[test]
fn the_pinned_periods() {
    for (period, start, end) in [
        (Period::Day, "Thu 2026-04-30 00:00", "Fri 2026-05-01 00:00"),
        (Period::Week, "Mon 2026-04-27 00:00", "Mon 2026-05-04 00:00"),
        (Period::Month, "Wed 2026-04-01 00:00", "Fri 2026-05-01 00:00"),
    ] {
        let found = shown(period, "2026-04-30T17:00:00Z", None);
        assert_eq!(found, (start.into(), end.into()));
    }
    let december = shown(Period::Month, "2026-12-01T00:00:00Z", None);
    assert_eq!(december.1, "Fri 2027-01-01 00:00");
}

#[test]
fn month_ends_and_leap_years() {
    for (at, end) in [
        ("2028-02-29T23:59:59.999Z", "Wed 2028-03-01 00:00"),
        ("2027-02-28T23:59:59Z", "Mon 2027-03-01 00:00"),
        ("2100-02-28T12:00:00Z", "Mon 2100-03-01 00:00"),
        ("2026-01-31T00:00:00Z", "Sun 2026-02-01 00:00"),
    ] {
        assert_eq!(shown(Period::Month, at, None).1, end);
    }
    let days = |at| {
        let bounds = Period::Month.around(ms(at), &TimeZone::UTC).unwrap();
        (bounds.end - bounds.start) / DAY_MS
    };
    assert_eq!(
        [
            "2028-02-03T00:00:00Z",
            "2027-02-03T00:00:00Z",
            "2100-02-03T00:00:00Z"
        ]
        .map(days),
        [29, 28, 28]
    );
}

#[test]
fn days_on_which_clocks_are_changed() {
    let hours = |period: Period, zone_name: &str, at: &str| {
        let bounds = period.around(ms(at), &zone(Some(zone_name)).unwrap()).unwrap();
        (bounds.end - bounds.start) / HOUR_MS
    };
    for (period, zone_name, at, expected) in [
        (Period::Day, "Europe/Berlin", "2026-03-29T10:00:00Z", 23),
        (Period::Day, "Europe/Berlin", "2026-10-25T10:00:00Z", 25),
        (Period::Day, "UTC", "2026-03-29T10:00:00Z", 24),
        (Period::Week, "Europe/Berlin", "2026-03-29T10:00:00Z", 7 * 24 - 1),
        (
            Period::Month,
            "Europe/Berlin",
            "2026-10-25T10:00:00Z",
            31 * 24 + 1,
        ),
        // Clocks went from 23:59 to 01:00: the day has no 00:00.
        (Period::Day, "America/Sao_Paulo", "2018-11-04T12:00:00Z", 23),
    ] {
        assert_eq!(hours(period, zone_name, at), expected, "{zone_name} {at}");
    }
    let first = shown(Period::Day, "2018-11-04T12:00:00Z", Some("America/Sao_Paulo"));
    assert_eq!(
        first,
        ("Sun 2018-11-04 01:00".into(), "Mon 2018-11-05 00:00".into())
    );
}

#[test]
fn days_of_a_forecast() {
    let found = [
        days_elapsed(0, HOUR_MS),
        days_elapsed(0, 36 * HOUR_MS),
        days_elapsed(DAY_MS, 0),
        days_remaining(0, 6 * HOUR_MS),
        days_remaining(DAY_MS, 0),
    ];
    assert_eq!(json!(found), json!([1.0, 1.5, 1.0, 0.25, 0.0]));
}

#[test]
fn a_moment_outside_every_calendar_is_an_error() {
    let error = Period::Day.around(i64::MAX, &TimeZone::UTC).unwrap_err();
    assert!(error.to_string().starts_with("no calendar period at"), "{error}");
}

fn a_period() -> impl Strategy<Value = Period> {
    prop_oneof![Just(Period::Day), Just(Period::Week), Just(Period::Month)]
}

fn a_zone() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just("UTC"),
        Just("Europe/Berlin"),
        Just("America/New_York"),
        Just("America/Sao_Paulo"),
        Just("Australia/Lord_Howe"),
        Just("Asia/Kathmandu"),
        Just("Pacific/Apia"),
    ]
}

proptest! {
    /// Periods cover all time, touch, and do not overlap.
    #[test]
    fn every_moment_is_in_one_period(period in a_period(), name in a_zone(), now in ms("1990-01-01T00:00:00Z")..ms("2120-01-01T00:00:00Z")) {
        let zone = zone(Some(name)).unwrap();
        let around = |at| period.around(at, &zone).unwrap();
        let bounds = around(now);
        prop_assert!(bounds.start <= now && now < bounds.end);
        prop_assert_eq!(around(bounds.start), bounds);
        prop_assert_eq!(around(bounds.end - 1), bounds);
        prop_assert_eq!(around(bounds.end).start, bounds.end);
        prop_assert_eq!(around(bounds.start - 1).end, bounds.start);
        let hours = (bounds.end - bounds.start) / HOUR_MS;
        let (shortest, longest) = match period {
            Period::Day => (23, 25),
            Period::Week => (6 * 24 - 1, 7 * 24 + 1),
            Period::Month => (27 * 24, 31 * 24 + 1),
        };
        prop_assert!((shortest..=longest).contains(&hours), "{} hours", hours);
    }

    /// In UTC days and weeks are plain arithmetic.
    #[test]
    fn utc_days_and_weeks_are_of_one_length(now in 0..ms("2200-01-01T00:00:00Z")) {
        let day = Period::Day.around(now, &TimeZone::UTC).unwrap();
        prop_assert_eq!(day, Bounds { start: now - now % DAY_MS, end: now - now % DAY_MS + DAY_MS });
        let week = Period::Week.around(now, &TimeZone::UTC).unwrap();
        // The first day was a Thursday.
        prop_assert_eq!((week.start / DAY_MS + 3) % 7, 0);
        prop_assert_eq!(week.end - week.start, 7 * DAY_MS);
    }
}
