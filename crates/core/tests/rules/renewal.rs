//! The renewal of one volume, with random events in every order, and what must hold at each moment.
//!
//! `SVID_CSI_SEED` replays one seed, and `SVID_CSI_SEEDS` says how many to try from there.

mod volume;

use std::ops::AddAssign;
use std::time::{Duration, SystemTime};

use svid_csi_core::identity::{CLOCK_SKEW, Validity};
use svid_csi_core::renewal::{Reference, Tokens, Work};

use self::volume::{Svid, Volume};
use crate::oracle::number;

const LISTS_PER_SEED: u64 = 5_000;
const EVENTS_PER_LIST: u64 = 40;

/// Durations are rounded to nanoseconds, fractions of them to less.
const ROUNDING: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

type Checked = Result<(), &'static str>;

fn check(holds: bool, otherwise: &'static str) -> Checked {
    if holds { Ok(()) } else { Err(otherwise) }
}

/// How often something happened, because a check that is never reached proves nothing.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    renewed: u64,
    due: u64,
    retried: u64,
    withdrawn: u64,
    withdrawn_during_work: u64,
    alarms: u64,
    tokens: u64,
    jumped_unseen: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.renewed += other.renewed;
        self.due += other.due;
        self.retried += other.retried;
        self.withdrawn += other.withdrawn;
        self.withdrawn_during_work += other.withdrawn_during_work;
        self.alarms += other.alarms;
        self.tokens += other.tokens;
        self.jumped_unseen += other.jumped_unseen;
    }
}

impl Volume {
    /// The properties after time has passed.
    fn was_awake(&self) -> Checked {
        if let Some(Svid { validity, .. }) = self.has {
            let is_over = self.wall > part_of(&validity, 5.0 / 6.0) + ROUNDING;
            check(!is_over || self.alarm_raised, "a sixth is left and there was no alarm")?;
            if !self.pushes && !self.identity_work.asking && self.identity_work.pause.is_none() {
                check(self.wall <= part_of(&validity, 0.734) + ROUNDING, "asleep past 73.4 % of the lifetime")?;
            }
            if let (Tokens::Issued(Some(tokens)), None) = (self.tokens, self.tokens_work.pause) {
                let began_now = self.monotonic - self.since <= SECOND + ROUNDING;
                let is_awake = self.tokens_work.asking || began_now;
                check(is_awake || self.wall <= part_of(&tokens, 0.734) + ROUNDING, "asleep past 73.4 % of the tokens")?;
            }
        }
        for work in [&self.identity_work, &self.tokens_work] {
            if let Some(pause) = work.pause.filter(|_| !work.asking) {
                check(self.monotonic - pause.began <= pause.longest + ROUNDING, "the back-off is too long")?;
                let until = pause.began_at + pause.longest + ROUNDING;
                check(self.wall <= until, "the back-off lasts although the machine was asleep for longer")?;
            }
        }
        Ok(())
    }

    /// Whether it listens to the source only if that sends identities, and in a pause only for another identity than
    /// the one that could not be delivered.
    fn listens_as_it_may(&self) -> Checked {
        let differs_from = self.next.identity.differs_from;
        check(self.pushes || differs_from.is_none(), "a source that does not push is listened to")?;
        let is_known = self.identity_work.pause.is_some_and(|pause| pause.undelivered.is_some());
        check(is_known || differs_from != Some(Reference::Undelivered), "no identity was undelivered")
    }

    /// Time is about to pass, so that what was said must have been noticed, and an alarm raised.
    fn nothing_is_ignored(&self) -> Checked {
        for work in [Work::Identity, Work::Tokens] {
            check(self.renewal.failures(work) == self.work(work).failures, "failures are not counted")?;
        }
        let is_asked = self.identity_work.asking || !self.identity_work.requested;
        check(is_asked, "an administrator's request is ignored")?;
        if let Some(Svid { validity, .. }) = self.has {
            let is_over = self.wall >= part_of(&validity, 5.0 / 6.0) + ROUNDING;
            check(!is_over || self.alarm_raised, "no alarm although a sixth is left")?;
            let is_asleep = !self.pushes && !self.identity_work.asking && self.identity_work.pause.is_none();
            let is_early = self.wall + CLOCK_SKEW < validity.not_before;
            check(!is_asleep || !is_early, "asleep with an identity that is not valid yet")?;
        }
        if self.pushes && !self.identity_work.asking {
            let pause = self.identity_work.pause.as_ref();
            let waits = pause.is_some_and(|pause| {
                let is_undelivered =
                    pause.undelivered.is_some() && self.agent.is_some_and(|svid| svid.number == pause.undelivered);
                pause.is_deaf || is_undelivered
            });
            let news = self.agent_differs_from(self.has.and_then(|svid| svid.number));
            check(waits || news.is_none(), "the agent's withdrawal or identity is ignored")?;
        }
        Ok(())
    }

    /// Whether it is time for some work, which has that validity until now.
    fn is_time(&mut self, work: Work, validity: Option<Validity>) -> Checked {
        match (self.work(work).pause, validity) {
            (Some(pause), _) => {
                self.counts.retried += 1;
                let is_over = self.monotonic + ROUNDING >= pause.began + pause.shortest
                    || self.wall + ROUNDING >= pause.began_at + pause.shortest;
                check(is_over, "the back-off is too short")
            }
            _ if self.work(work).requested => Ok(()),
            (None, None) => Ok(()),
            (None, Some(validity)) => {
                let is_due = self.wall + ROUNDING >= part_of(&validity, 0.6);
                self.counts.due += u64::from(is_due);
                // Tokens are requested a second later.
                let is_early = self.wall + CLOCK_SKEW < validity.not_before + SECOND + ROUNDING;
                check(is_due || is_early, "asked without a reason")
            }
        }
    }
}

fn part_of(validity: &Validity, part: f64) -> SystemTime {
    validity.not_before + validity.lifetime().mul_f64(part)
}

/// The shortest and the longest pause after that many failures.
fn bounds(failures: u32, remaining: Duration) -> (Duration, Duration) {
    let usual = [30, 60, 120, 240, 300][(failures as usize - 1).min(4)];
    let most = if remaining.is_zero() { Duration::MAX } else { (remaining / 4).max(SECOND) };
    let within = |percent: u32| (SECOND * usual * percent / 100).min(most);
    (within(80), within(120))
}

fn run(seed: u64, tells: bool) -> Result<Counts, (&'static str, String)> {
    let mut volume = Volume::new(seed, tells);
    for _ in 0..EVENTS_PER_LIST {
        if let Err(why) = volume.step() {
            return Err((why, volume.story.unwrap_or_default()));
        }
    }
    Ok(volume.counts)
}

#[test]
fn renewals_are_in_time_whatever_happens() {
    let (first, seeds) = (number("SVID_CSI_SEED", 1), number("SVID_CSI_SEEDS", 4));
    let mut counts = Counts::default();
    for seed in first..first + seeds {
        for list in seed * LISTS_PER_SEED..(seed + 1) * LISTS_PER_SEED {
            match run(list, false) {
                Ok(counted) => counts += counted,
                Err((why, _)) => {
                    let story = run(list, true).expect_err("a seed decides everything").1;
                    panic!("{why}\n{story}replay: SVID_CSI_SEED={seed} SVID_CSI_SEEDS=1");
                }
            }
        }
    }
    let Counts { renewed, due, retried, withdrawn, withdrawn_during_work, alarms, tokens, jumped_unseen } = counts;
    let least =
        [renewed, due, retried, withdrawn, withdrawn_during_work, alarms, tokens, jumped_unseen].into_iter().min();
    assert!(least > Some(100 * seeds), "the lists are about something else: {counts:?}");
}
