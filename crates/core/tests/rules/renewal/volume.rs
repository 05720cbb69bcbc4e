//! A volume that waits as the loop in `node/volume/renewal` does: it asks to be notified of jumps, reads the clock, lets
//! `Renewal` decide, and then waits for whatever comes first.

use std::fmt::Display;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use svid_csi_core::identity::Validity;
use svid_csi_core::plan::Issuer;
use svid_csi_core::renewal::{Ask, Event, Held, Next, Now, Reference, Renewal, Tokens, Work};

use super::{Checked, Counts, ROUNDING, SECOND, bounds, check, part_of};
use crate::oracle::Rolls;

/// An identity, by the number under which the source knows it; an announced one is not recorded with it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Svid {
    pub(super) number: Option<u64>,
    pub(super) validity: Validity,
}

/// What came from the source.
#[derive(Debug, Clone, Copy)]
pub(super) enum News {
    Identity(Svid),
    Withdrawal,
    Tokens(Validity),
    Failure(Work),
}

/// A pause after a failure, as the documentation describes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pause {
    pub(super) began: Duration,
    pub(super) began_at: SystemTime,
    pub(super) shortest: Duration,
    pub(super) longest: Duration,
    /// A source that pushes cannot end it: nothing was delivered, or nothing could be removed.
    pub(super) is_deaf: bool,
    pub(super) undelivered: Option<u64>,
}

/// One part of the work for a volume, as it is expected.
#[derive(Debug, Default)]
pub(super) struct Expected {
    pub(super) failures: u32,
    pub(super) pause: Option<Pause>,
    /// Whether it was requested since it last ended.
    pub(super) requested: bool,
    pub(super) asking: bool,
}

pub(super) struct Volume {
    rolls: Rolls,
    pub(super) story: Option<String>,
    pub(super) wall: SystemTime,
    /// The wall clock as it was last read.
    read: SystemTime,
    pub(super) monotonic: Duration,
    lifetime: Duration,
    pub(super) pushes: bool,
    /// What the agent has for the pod, if it pushes.
    pub(super) agent: Option<Svid>,
    pub(super) has: Option<Svid>,
    pub(super) tokens: Tokens,
    identities: u64,
    pub(super) renewal: Renewal,
    pub(super) next: Next,
    /// Since when it waits for what is next.
    pub(super) since: Duration,
    /// Whether the clock has jumped since shortly before it was read.
    jumped: bool,
    pub(super) identity_work: Expected,
    pub(super) tokens_work: Expected,
    /// Whether it was raised for the current identity.
    pub(super) alarm_raised: bool,
    /// Whether it was raised since the volume began to wait.
    alarm_is_over: bool,
    pub(super) counts: Counts,
}

impl Volume {
    pub(super) fn new(seed: u64, tells: bool) -> Self {
        let mut rolls = Rolls::of(seed);
        let pushes = rolls.one_in(2);
        let issuer = if pushes { Issuer::Broker } else { Issuer::LocalCa };
        let never = Ask { after: None, differs_from: None };
        let mut volume = Volume {
            lifetime: Duration::from_secs(20 + (1 << rolls.roll(24))),
            rolls,
            story: tells.then(String::new),
            wall: UNIX_EPOCH + Duration::from_secs(1_700_000_000),
            read: UNIX_EPOCH,
            monotonic: Duration::ZERO,
            pushes,
            agent: None,
            has: None,
            tokens: Tokens::Unwanted,
            identities: 0,
            renewal: Renewal::new(issuer, None),
            next: Next { identity: never, tokens: never, alarm: None },
            since: Duration::ZERO,
            jumped: false,
            identity_work: Expected::default(),
            tokens_work: Expected::default(),
            alarm_raised: false,
            alarm_is_over: false,
            counts: Counts::default(),
        };
        volume.agent = Some(volume.issue());
        volume.has = volume.agent.filter(|_| !volume.rolls.one_in(4));
        volume.tokens = match volume.rolls.roll(4) {
            0 => Tokens::Issued(None),
            1 => Tokens::Missing,
            2 => Tokens::Issued(Some(volume.valid_from_now())),
            _ => Tokens::Unwanted,
        };
        // The driver may have been down for a while.
        volume.wall += Duration::from_millis(volume.rolls.roll(volume.lifetime.as_millis() as u64 * 5 / 4));
        volume.renewal = Renewal::new(issuer, volume.held());
        let event = if volume.rolls.one_in(8) { Event::RenewNow } else { Event::Woken };
        volume.on(event);
        volume
    }

    pub(super) fn work(&self, work: Work) -> &Expected {
        match work {
            Work::Identity => &self.identity_work,
            Work::Tokens => &self.tokens_work,
        }
    }

    fn work_mut(&mut self, work: Work) -> &mut Expected {
        match work {
            Work::Identity => &mut self.identity_work,
            Work::Tokens => &mut self.tokens_work,
        }
    }

    fn held(&self) -> Option<Held> {
        self.has.map(|svid| Held { identity: svid.validity, tokens: self.tokens })
    }

    fn valid_from_now(&self) -> Validity {
        Validity { not_before: self.wall, not_after: self.wall + self.lifetime }
    }

    fn issue(&mut self) -> Svid {
        self.identities += 1;
        Svid { number: Some(self.identities), validity: self.valid_from_now() }
    }

    fn tell(&mut self, what: impl Display) {
        if let Some(story) = &mut self.story {
            let (elapsed, wall) = (self.monotonic, self.wall.duration_since(UNIX_EPOCH).unwrap_or_default());
            story.push_str(&format!("after {elapsed:?}, at {wall:?}: {what}\n"));
        }
    }

    fn jump(&mut self) {
        let by = Duration::from_millis(1 << self.rolls.roll(36));
        self.wall = if self.rolls.one_in(2) { self.wall - by } else { self.wall + by };
        self.jumped = true;
        self.tell("the clock jumped");
    }

    fn pass(&mut self, time: Duration) {
        self.monotonic += time;
        self.wall += time;
    }

    /// Some of a duration, or all of it.
    fn part(&mut self, most: Duration) -> Duration {
        if self.rolls.one_in(4) { most.mul_f64(self.rolls.roll(1000) as f64 / 1000.0) } else { most }
    }

    /// Lets `Renewal` decide. The clock may jump while it does.
    fn on(&mut self, event: Event) {
        match event {
            Event::Woken => {}
            Event::RenewNow => {
                self.identity_work =
                    Expected { pause: None, requested: true, ..std::mem::take(&mut self.identity_work) };
                self.tokens_work.pause = None;
            }
            Event::Succeeded(Work::Identity, _) => {
                (self.identity_work, self.tokens_work) = (Expected::default(), Expected::default());
                self.alarm_raised = false;
            }
            Event::Succeeded(Work::Tokens, _) => self.tokens_work = Expected::default(),
            Event::Failed { .. } => {}
        }
        self.jumped = false;
        if self.rolls.one_in(16) {
            self.jump();
        }
        self.tell(format_args!("{event:?}"));
        self.read = self.wall;
        let (now, rolls) = (Now { wall: self.wall, monotonic: self.monotonic }, &mut self.rolls);
        self.next = self.renewal.on(event, now, || f64::from(rolls.roll(1025) as u32) / 1024.0);
        let next = self.next;
        self.tell(format_args!("{next:?}"));
        if self.rolls.one_in(16) {
            self.jump();
            self.counts.jumped_unseen += 1;
        }
        self.since = self.monotonic;
        (self.identity_work.asking, self.tokens_work.asking, self.alarm_is_over) = (false, false, false);
    }

    /// The rest of a time that began when the volume began to wait.
    fn rest(&self, after: Option<Duration>) -> Option<Duration> {
        after.map(|after| (self.since + after).saturating_sub(self.monotonic))
    }

    fn is_over(&self, after: Option<Duration>) -> bool {
        self.rest(after).is_some_and(|rest| rest.is_zero())
    }

    /// What the agent says to a volume with that identity.
    pub(super) fn agent_differs_from(&self, number: Option<u64>) -> Option<News> {
        match self.agent {
            Some(svid) if number.is_none() || svid.number != number => Some(News::Identity(svid)),
            Some(_) => None,
            None => self.has.map(|_| News::Withdrawal),
        }
    }

    fn pushed(&self) -> Option<News> {
        match self.next.identity.differs_from {
            _ if self.identity_work.asking => match self.agent {
                Some(svid) => Some(News::Identity(svid)),
                None => self.has.map(|_| News::Withdrawal),
            },
            Some(Reference::Held) => self.agent_differs_from(self.has.and_then(|svid| svid.number)),
            Some(Reference::Undelivered) => {
                self.agent_differs_from(self.identity_work.pause.and_then(|pause| pause.undelivered))
            }
            None => None,
        }
    }

    /// Does what takes no time, or else lets time pass until something happens.
    pub(super) fn step(&mut self) -> Checked {
        if self.jumped {
            self.on(Event::Woken);
            return Ok(());
        }
        self.listens_as_it_may()?;
        if self.pushes
            && let Some(news) = self.pushed()
        {
            let pause = self.identity_work.pause.filter(|_| !self.identity_work.asking);
            let is_again =
                matches!((news, pause), (News::Identity(svid), Some(pause)) if svid.number == pause.undelivered);
            check(!is_again, "an identity is delivered again without a pause")?;
            return self.work_on(news);
        }
        if !self.identity_work.asking && self.is_over(self.next.identity.after) {
            return self.ask_for_identity();
        }
        if !self.tokens_work.asking && self.is_over(self.next.tokens.after) {
            return self.ask_for_tokens(false);
        }
        if !self.alarm_is_over && self.is_over(self.next.alarm) {
            return self.raise_alarm();
        }
        self.nothing_is_ignored()?;
        match self.rolls.roll(16) {
            0 => self.jump(),
            1 => self.on(Event::RenewNow),
            2 => self.on(Event::Woken),
            3 => self.agent = None,
            4 | 5 => self.agent = Some(self.issue()),
            6 if self.next.tokens.differs_from.is_some() => return self.ask_for_tokens(true),
            7..=10 if self.identity_work.asking && !self.pushes => {
                let (took, fails) = (self.part(60 * SECOND), self.rolls.one_in(2));
                if self.first_timer().is_some_and(|first| first < took) {
                    return self.pass_awake(took);
                }
                self.pass_awake(took)?;
                let svid = self.issue();
                return self.work_on(if fails { News::Failure(Work::Identity) } else { News::Identity(svid) });
            }
            11 | 12 if self.tokens_work.asking => {
                let (fails, tokens) = (self.rolls.one_in(2), self.valid_from_now());
                return self.work_on(if fails { News::Failure(Work::Tokens) } else { News::Tokens(tokens) });
            }
            _ => {
                let most = self.first_timer().unwrap_or(self.lifetime);
                let time = self.part(most);
                return self.pass_awake(time);
            }
        }
        Ok(())
    }

    fn first_timer(&self) -> Option<Duration> {
        let identity = self.rest(self.next.identity.after).filter(|_| !self.identity_work.asking);
        let tokens = self.rest(self.next.tokens.after).filter(|_| !self.tokens_work.asking);
        let alarm = self.rest(self.next.alarm).filter(|_| !self.alarm_is_over);
        [identity, tokens, alarm].into_iter().flatten().min()
    }

    /// Time passes until the next timer, at most that much, while the volume would notice everything.
    fn pass_awake(&mut self, most: Duration) -> Checked {
        let time = self.first_timer().map_or(most, |first| first.min(most));
        if time.is_zero() {
            return Ok(());
        }
        self.pass(time);
        self.was_awake()
    }

    fn ask_for_identity(&mut self) -> Checked {
        self.tell("asks for an identity");
        self.is_time(Work::Identity, self.has.map(|svid| svid.validity))?;
        self.identity_work.asking = true;
        Ok(())
    }

    fn ask_for_tokens(&mut self, bundles_changed: bool) -> Checked {
        self.tell("asks for tokens");
        check(self.has.is_some() && self.tokens != Tokens::Unwanted, "asked for tokens that no one needs")?;
        match self.tokens {
            _ if bundles_changed => {}
            Tokens::Issued(Some(tokens)) => self.is_time(Work::Tokens, Some(tokens))?,
            Tokens::Issued(None) => check(self.tokens_work.pause.is_some(), "asked for tokens without a reason")?,
            Tokens::Missing | Tokens::Unwanted => self.is_time(Work::Tokens, None)?,
        }
        self.tokens_work.asking = true;
        Ok(())
    }

    fn raise_alarm(&mut self) -> Checked {
        self.tell("the alarm");
        let validity = self.has.ok_or("an alarm without an identity")?.validity;
        check(self.wall + ROUNDING >= part_of(&validity, 5.0 / 6.0), "an alarm although more than a sixth is left")?;
        check(!self.alarm_raised, "two alarms for one identity")?;
        (self.alarm_raised, self.alarm_is_over) = (true, true);
        self.renewal.alarm_raised();
        self.counts.alarms += 1;
        Ok(())
    }

    /// Installs or removes, which takes time and may fail. Nothing is noticed meanwhile.
    fn work_on(&mut self, news: News) -> Checked {
        self.tell(format_args!("{news:?}"));
        let (had_agent, came) = (self.agent.is_some(), self.valid_from_now());
        if self.rolls.one_in(4) {
            let took = self.part(60 * SECOND);
            self.pass(took);
            match self.rolls.roll(4) {
                0 => self.jump(),
                1 => self.agent = None,
                2 => self.agent = Some(self.issue()),
                _ => {}
            }
        }
        if self.pushes && had_agent && self.agent.is_none() && self.has.is_some() && matches!(news, News::Identity(_)) {
            self.counts.withdrawn_during_work += 1;
        }
        let fails = matches!(news, News::Failure(_)) || self.rolls.one_in(4);
        let work = match news {
            News::Tokens(_) | News::Failure(Work::Tokens) => Work::Tokens,
            News::Identity(_) | News::Withdrawal | News::Failure(Work::Identity) => Work::Identity,
        };
        if fails {
            return self.fail(work, news);
        }
        match news {
            News::Identity(svid) => {
                self.has = Some(Svid { validity: came, ..svid });
                self.counts.renewed += 1;
                if self.tokens == Tokens::Missing || matches!(self.tokens, Tokens::Issued(Some(_))) {
                    self.tokens = Tokens::Issued(Some(self.valid_from_now()));
                }
            }
            News::Withdrawal => {
                self.has = None;
                self.counts.withdrawn += 1;
            }
            News::Tokens(validity) => {
                self.tokens = Tokens::Issued(Some(validity));
                self.counts.tokens += 1;
            }
            News::Failure(_) => {}
        }
        self.on(Event::Succeeded(work, self.held()));
        Ok(())
    }

    fn fail(&mut self, work: Work, news: News) -> Checked {
        let tried = if let News::Identity(svid) = news { Some(svid) } else { None };
        if self.has.is_none() && self.rolls.one_in(2) {
            // It was announced.
            self.has = tried.map(|svid| Svid { number: None, ..svid });
        }
        let (failures, pause_began) = (self.work(work).failures + 1, self.monotonic);
        self.on(Event::Failed { work, held: self.held(), undelivered: tried.is_some() });
        let validity = match (work, self.tokens) {
            (Work::Identity, _) => self.has.map(|svid| svid.validity),
            (Work::Tokens, Tokens::Issued(tokens)) => tokens,
            (Work::Tokens, Tokens::Missing | Tokens::Unwanted) => None,
        };
        let remaining = validity.and_then(|validity| validity.not_after.duration_since(self.read).ok());
        let (shortest, longest) = bounds(failures, remaining.unwrap_or_default());
        let undelivered = tried.and_then(|svid| svid.number).filter(|_| self.has.is_some());
        let pause = Pause {
            began: pause_began,
            began_at: self.read,
            shortest,
            longest,
            is_deaf: undelivered.is_none(),
            undelivered,
        };
        *self.work_mut(work) = Expected { failures, pause: Some(pause), requested: false, asking: false };
        Ok(())
    }
}
