//! When the node was disturbed: an identity may expire only then.

use std::fs;
use std::time::{Duration, Instant};

/// The disturbances of the past.
#[derive(Debug, Default)]
pub(crate) struct Calm {
    since: Option<Instant>,
    past: Vec<(Instant, Instant)>,
    /// When the machine was too busy to run the driver.
    busy: Vec<(Instant, Instant)>,
}

impl Calm {
    pub(crate) fn disturbed(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    pub(crate) fn calmed(&mut self, now: Instant) {
        self.past.extend(self.since.take().map(|since| (since, now)));
    }

    /// It was disturbed for that long until now.
    pub(crate) fn disturbed_for(&mut self, long: Duration, now: Instant) {
        self.past.extend(now.checked_sub(long).map(|from| (from, now)));
    }

    /// The machine was too busy to run the driver, for that long in total until now.
    pub(crate) fn lagged(&mut self, long: Duration, now: Instant) {
        self.busy.extend(now.checked_sub(long).filter(|_| !long.is_zero()).map(|from| (from, now)));
    }

    /// How long it was disturbed within that long before `now`, also by other programs on the machine.
    pub(crate) fn disturbed_within(&self, span: Duration, now: Instant) -> Duration {
        let all = self.past.iter().copied().chain(self.since.map(|since| (since, now)));
        all.map(|disturbance| within(disturbance, span, now)).sum::<Duration>() + self.busy_within(span, now)
    }

    /// How long the machine was too busy within that long before `now`.
    pub(crate) fn busy_within(&self, span: Duration, now: Instant) -> Duration {
        self.busy.iter().map(|lag| within(*lag, span, now)).sum()
    }
}

fn within((since, until): (Instant, Instant), span: Duration, now: Instant) -> Duration {
    span.min(now.saturating_duration_since(since)).saturating_sub(now.saturating_duration_since(until))
}

/// How long the threads of a process were ready to run and did not, in total.
pub(crate) fn waited(process: &str) -> Duration {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let waited = |text: String| text.split_whitespace().nth(1)?.parse().ok().map(Duration::from_nanos);
    threads.filter_map(|thread| waited(fs::read_to_string(thread.path().join("schedstat")).ok()?)).sum()
}

#[test]
fn disturbances_count_while_they_are_recent() {
    let seconds = Duration::from_secs;
    let start = Instant::now();
    let mut calm = Calm::default();
    calm.disturbed(start);
    calm.disturbed(start + seconds(1));
    calm.calmed(start + seconds(3));
    calm.disturbed(start + seconds(10));
    assert_eq!(calm.disturbed_within(seconds(100), start + seconds(12)), seconds(5));
    assert_eq!(calm.disturbed_within(seconds(10), start + seconds(12)), seconds(3));
    assert_eq!(calm.disturbed_within(seconds(1), start + seconds(12)), seconds(1));
    calm.calmed(start + seconds(12));
    assert_eq!(calm.disturbed_within(seconds(5), start + seconds(30)), seconds(0));
    calm.lagged(seconds(0), start + seconds(27));
    calm.lagged(seconds(2), start + seconds(28));
    assert_eq!(calm.disturbed_within(seconds(5), start + seconds(30)), seconds(2));
    assert_eq!(calm.busy_within(seconds(100), start + seconds(30)), seconds(2));
}
