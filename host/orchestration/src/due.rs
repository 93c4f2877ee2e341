//! What becomes of a schedule's ticks that are due: a pure function of its row, the time, and whether the run before is over.
//!
//! Invariants: of ticks that are due together at most one starts a run, the newest, and that only within the schedule's `catch-up`; the
//! others are counted. What a decision says of the ticks up to now is all there is to say of them.

use ltmc_model::Timestamp;
use ltmc_model::schedule::{Outcome, Overlap, Passed, Timing, Trouble};
use ltmc_ports::schedules::{StoredSchedule, Ticked};

/// Of ticks that nobody was there for, so many are counted.
const MOST_COUNTED: usize = 1_000;
/// What is said of a tick of which nothing else is known.
const NOBODY: &str = "no host was there in time";

/// What is said of a tick that waited in a queue, and in whose place a newer one was started.
const NEWER: &str = "the run of the tick before was under way, and a newer tick was started in its place";

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Nothing is due.
    Nothing,
    /// A run is started by this tick; so is dealt with all that are due.
    Start { tick: Timestamp, ticked: Ticked },
    /// Nothing is started by those that are due.
    Pass(Ticked),
    /// This tick waits for the run before.
    Wait { tick: Timestamp },
}

/// Whether it matters to a schedule that its last run is over.
pub(crate) fn is_alone(schedule: &StoredSchedule) -> bool {
    schedule.timing.overlap() != Overlap::Parallel && schedule.last.is_some()
}

/// What becomes of what is due by `now`. `is_free`: the run that the schedule started last is over, or that does not matter.
pub(crate) fn decide(schedule: &StoredSchedule, now: Timestamp, is_free: bool) -> Decision {
    let Some(due) = Due::of(schedule, now) else { return Decision::Nothing };
    let Due { newest, older, before, late, last } = due;
    let in_time = |skipped, missed, trouble| {
        let next = after(&schedule.timing, now);
        Ticked { due: schedule.next, next, passed: Passed { skipped, missed }, trouble }
    };
    // What is known of why they waited.
    let waited = schedule.trouble.as_ref().filter(|trouble| trouble.outcome == Outcome::Waits);
    let why = waited.map_or(NOBODY, |trouble| trouble.why.as_str());
    let missed = |tick| Some(Trouble::new(tick, Outcome::Missed, why));
    let Some(tick) = newest else {
        return Decision::Pass(in_time(0, older + late, missed(last)));
    };
    match schedule.timing.overlap() {
        Overlap::Skip if !is_free => {
            let why = "the run of the tick before was under way";
            Decision::Pass(in_time(older + 1, late, Some(Trouble::new(tick, Outcome::Skipped, why))))
        }
        Overlap::Queue if !is_free => Decision::Wait { tick },
        overlap => {
            let (skipped, missed_too) = if overlap == Overlap::Queue { (older, late) } else { (0, older + late) };
            let told = schedule.trouble.clone().filter(|trouble| trouble.outcome != Outcome::Waits);
            // The newest of those that a queue passes over.
            let queued = before.filter(|_| skipped > 0).map(|tick| Trouble::new(tick, Outcome::Skipped, NEWER));
            let trouble = if missed_too > 0 { missed(schedule.next) } else { queued.or(told) };
            Decision::Start { tick, ticked: in_time(skipped, missed_too, trouble) }
        }
    }
}

/// The ticks that are due.
struct Due {
    /// The newest, where it is not too late for it.
    newest: Option<Timestamp>,
    /// How many older ones it is not too late for either.
    older: u32,
    /// The newest of these.
    before: Option<Timestamp>,
    /// For how many it is too late.
    late: u32,
    /// The newest, late or not.
    last: Timestamp,
}

impl Due {
    fn of(schedule: &StoredSchedule, now: Timestamp) -> Option<Self> {
        let timing = &schedule.timing;
        let due = std::iter::successors(Some(schedule.next), |tick| timing.next(*tick));
        let due: Vec<Timestamp> = due.take_while(|tick| *tick <= now).take(MOST_COUNTED).collect();
        let last = match due.len() {
            MOST_COUNTED => newest(timing, now).max(*due.last()?),
            _ => *due.last()?,
        };
        let is_late = |tick: Timestamp| now.since(tick) > timing.catch_up();
        let late = due.iter().filter(|tick| is_late(**tick)).count();
        let newest = (!is_late(last)).then_some(last);
        let older = (due.len() - late).saturating_sub(usize::from(newest.is_some_and(|tick| due.contains(&tick))));
        let before = due.iter().rev().copied().find(|tick| !is_late(*tick) && Some(*tick) != newest);
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Some(Self { newest, older: count(older), before, late: count(late), last })
    }
}

/// The newest tick up to now, where there are many: looked for in longer and longer stretches before it.
fn newest(timing: &Timing, now: Timestamp) -> Timestamp {
    let stretch = |minutes: u64| {
        let from = Timestamp::from_millis(now.millis().saturating_sub(minutes * 60_000));
        timing.ticks(from).take_while(|tick| *tick <= now).last()
    };
    let most = Timing::MOST_CATCH_UP.as_secs() / 60 + 1;
    let minutes = std::iter::successors(Some(1), |minutes| (*minutes < most).then_some(minutes * 2));
    minutes.into_iter().find_map(stretch).unwrap_or_default()
}

/// The first tick after a moment; where there is none, the end of time.
pub(crate) fn after(timing: &Timing, at: Timestamp) -> Timestamp {
    timing.next(at).unwrap_or(Timestamp::from_millis(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ltmc_model::Digest;
    use ltmc_model::schedule::ScheduleId;
    use ltmc_ports::testing::sample;

    use super::*;

    const HOUR: u64 = 60 * 60_000;

    /// Every hour from the first full one of the tests' time on; a tick is started up to two hours after its time.
    fn hourly(overlap: Overlap) -> StoredSchedule {
        let catch_up = Duration::from_secs(2 * 60 * 60);
        let timing = Timing::new("0 * * * *".parse().unwrap(), "UTC".parse().unwrap(), overlap, catch_up);
        let next = timing.next(sample::at(0)).unwrap();
        StoredSchedule {
            tenant: sample::tenant("acme"),
            id: ScheduleId { workflow: "report".parse().unwrap(), number: 1 },
            digest: Digest::of(b"hourly"),
            timing,
            by: None,
            next,
            paused: None,
            last: None,
            started: 0,
            skipped: 0,
            missed: 0,
            trouble: None,
        }
    }

    fn later(schedule: &StoredSchedule, millis: u64) -> Timestamp {
        schedule.next.after(Duration::from_millis(millis))
    }

    fn ticked(schedule: &StoredSchedule, hours: u64, skipped: u32, missed: u32, trouble: Option<Trouble>) -> Ticked {
        let next = later(schedule, hours * HOUR);
        Ticked { due: schedule.next, next, passed: Passed { skipped, missed }, trouble }
    }

    #[test]
    fn a_tick_starts_a_run_at_its_time_and_not_before() {
        for overlap in [Overlap::Skip, Overlap::Queue, Overlap::Parallel] {
            let schedule = hourly(overlap);
            let before = Timestamp::from_millis(schedule.next.millis() - 1);
            assert_eq!(decide(&schedule, before, true), Decision::Nothing);
            for late in [0, 1, HOUR - 1] {
                let wanted = Decision::Start { tick: schedule.next, ticked: ticked(&schedule, 1, 0, 0, None) };
                assert_eq!(decide(&schedule, later(&schedule, late), true), wanted, "{late} ms late");
            }
        }
    }

    #[test]
    fn after_an_absence_the_newest_is_made_up_for_and_the_others_are_counted() {
        let schedule = hourly(Overlap::Skip);
        let missed = Some(Trouble::new(schedule.next, Outcome::Missed, NOBODY));
        for hours in [1, 2, 5, 900] {
            let tick = later(&schedule, hours * HOUR);
            let others = u32::try_from(hours).unwrap();
            let wanted = Decision::Start { tick, ticked: ticked(&schedule, hours + 1, 0, others, missed.clone()) };
            assert_eq!(decide(&schedule, later(&schedule, hours * HOUR + 5), true), wanted);
        }
        // A queue passes over those that it need not have missed.
        let schedule = hourly(Overlap::Queue);
        let now = later(&schedule, 5 * HOUR + 5);
        let wanted = ticked(&schedule, 6, 2 - 1, 4, missed);
        assert_eq!(decide(&schedule, now, true), Decision::Start { tick: later(&schedule, 5 * HOUR), ticked: wanted });
    }

    #[test]
    fn what_it_is_too_late_for_is_missed_and_starts_nothing() {
        let mut schedule = hourly(Overlap::Parallel);
        let catch_up = Duration::from_secs(60);
        schedule.timing =
            Timing::new("0 * * * *".parse().unwrap(), "UTC".parse().unwrap(), Overlap::Parallel, catch_up);
        let now = later(&schedule, 3 * HOUR + 60_001);
        let told = Some(Trouble::new(later(&schedule, 3 * HOUR), Outcome::Missed, NOBODY));
        assert_eq!(decide(&schedule, now, true), Decision::Pass(ticked(&schedule, 4, 0, 4, told)));
        let now = later(&schedule, 3 * HOUR + 60_000);
        assert!(matches!(decide(&schedule, now, true), Decision::Start { .. }), "just in time");
        // Of one that has waited it is told for what.
        schedule.trouble = Some(Trouble::new(schedule.next, Outcome::Waits, "there is no room"));
        let told = Some(Trouble::new(schedule.next, Outcome::Missed, "there is no room"));
        let now = later(&schedule, 60_001);
        assert_eq!(decide(&schedule, now, true), Decision::Pass(ticked(&schedule, 1, 0, 1, told)));
    }

    #[test]
    fn while_the_run_before_is_under_way_it_is_as_the_schedule_says() {
        let schedule = hourly(Overlap::Skip);
        let told = Some(Trouble::new(schedule.next, Outcome::Skipped, "the run of the tick before was under way"));
        assert_eq!(decide(&schedule, schedule.next, false), Decision::Pass(ticked(&schedule, 1, 1, 0, told)));
        let schedule = hourly(Overlap::Queue);
        assert_eq!(decide(&schedule, schedule.next, false), Decision::Wait { tick: schedule.next });
        let newer = later(&schedule, HOUR);
        assert_eq!(decide(&schedule, newer, false), Decision::Wait { tick: newer }, "the newest waits");
        // The one that it is started in place of is told of, and stays told of until there is something newer to tell.
        let told = Some(Trouble::new(schedule.next, Outcome::Skipped, NEWER));
        let wanted = Decision::Start { tick: newer, ticked: ticked(&schedule, 2, 1, 0, told.clone()) };
        assert_eq!(decide(&schedule, newer, true), wanted);
        let next = StoredSchedule { next: later(&schedule, 2 * HOUR), trouble: told.clone(), ..schedule.clone() };
        let Decision::Start { ticked, .. } = decide(&next, next.next, true) else { panic!("it is free") };
        assert_eq!(ticked.trouble, told);
        let schedule = hourly(Overlap::Parallel);
        assert!(!is_alone(&schedule));
        assert!(matches!(decide(&schedule, schedule.next, true), Decision::Start { .. }));
    }

    /// However long nobody was there, and however often it would have come: it is decided at once.
    #[test]
    fn a_long_absence_is_counted_up_to_a_bound() {
        let mut schedule = hourly(Overlap::Parallel);
        let day = Duration::from_secs(24 * 60 * 60);
        schedule.timing = Timing::new("* * * * *".parse().unwrap(), "UTC".parse().unwrap(), Overlap::Parallel, day);
        let now = schedule.next.after(day * 400);
        let Decision::Start { tick, ticked } = decide(&schedule, now, true) else { panic!("it is made up for") };
        assert_eq!((tick, ticked.next), (now, now.after(Duration::from_secs(60))));
        assert_eq!(ticked.passed, Passed { skipped: 0, missed: 1_000 });
        // Days without any before.
        schedule.timing =
            Timing::new("* * 1 1 *".parse().unwrap(), "UTC".parse().unwrap(), Overlap::Parallel, day * 31);
        schedule.next = schedule.timing.next(schedule.next).unwrap();
        let new_years_eve = schedule.next.after(Duration::from_secs(24 * 60 * 60 - 60));
        let Decision::Start { tick, .. } = decide(&schedule, schedule.next.after(day * 20), true) else { panic!() };
        assert_eq!(tick, new_years_eve);
    }
}
