//! Candidates on machines of their own, whose clocks, network and pauses are drawn from a seed: there are never two
//! leaders, and soon one after everything works again.
//!
//! Each machine has its own runtime with a paused clock, which stands for CLOCK_MONOTONIC: it advances while a process
//! is stopped, and not while the machine sleeps; CLOCK_BOOTTIME advances in both cases. `SVID_CSI_SEED` replays one
//! seed, and `SVID_CSI_SEEDS` says how many to try from there.

mod machine;
mod server;

use std::time::Duration;

use self::machine::Candidacy;
use self::server::Cluster;
use super::super::{LASTS, TRY};
use crate::host::simulated::Random;

const STEP: Duration = Duration::from_millis(50);
/// How long things go wrong.
const CHAOS: Duration = Duration::from_secs(150);
/// The longest time between two attempts (see `win`).
const LONGEST_RETRY: Duration = Duration::from_millis(4_400);
/// A call that works takes at most twice this time.
const LATENCY: Duration = Duration::from_millis(200);

/// The longest time without a leader after everything works: an attempt without a response ends, and the holder's next one
/// succeeds. If the holder crashed, the others have to see its last renewal and then wait until that has expired.
fn patience(has_crashed: bool) -> Duration {
    let attempt = TRY + LONGEST_RETRY + LATENCY * 4;
    if has_crashed { attempt + LASTS + LONGEST_RETRY + LATENCY * 4 } else { attempt }
}

struct World {
    seed: u64,
    random: Random,
    cluster: Cluster,
    machines: Vec<Candidacy>,
    passed: Duration,
    has_crashed: bool,
    /// Who led after each step.
    led: Vec<Option<usize>>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let cluster = Cluster::default();
        let machines = (0..2 + random.below(4)).map(|_| Candidacy::start(&cluster, &mut random)).collect();
        Self { seed, random, cluster, machines, passed: Duration::ZERO, has_crashed: false, led: Vec::new() }
    }

    /// One machine meets with something, or the network does.
    fn trouble(&mut self) {
        let which = usize::try_from(self.random.below(self.machines.len() as u64)).unwrap();
        let lasts = Duration::from_secs(1 + self.random.below(40));
        let machine = &mut self.machines[which];
        match self.random.below(12) {
            0..=3 => machine.link().cut(self.random.once_in(2)),
            4..=6 => machine.link().restore(),
            7 | 8 => machine.stop(lasts),
            9 | 10 => machine.sleep(lasts),
            _ => {
                self.has_crashed = true;
                *machine = Candidacy::start(&self.cluster, &mut self.random);
            }
        }
    }

    fn step(&mut self) {
        self.passed += STEP;
        let leads: Vec<_> = self.machines.iter_mut().map(|machine| machine.step(STEP)).collect();
        let leading: Vec<_> = (0..leads.len()).filter(|which| leads[*which]).collect();
        assert!(
            leading.len() <= 1,
            "seed {}: {leading:?} lead after {:?} (replay: SVID_CSI_SEED={})",
            self.seed,
            self.passed,
            self.seed
        );
        self.led.push(leading.first().copied());
    }

    fn run(mut self) -> Vec<Option<usize>> {
        while self.passed < CHAOS {
            if self.random.once_in(60) {
                self.trouble();
            }
            self.step();
        }
        self.machines.iter_mut().for_each(Candidacy::heal);
        let healed = self.passed;
        while self.led.last().is_none_or(Option::is_none) {
            self.step();
            let without = self.passed - healed;
            assert!(
                without <= patience(self.has_crashed),
                "seed {}: no leader {without:?} after everything works (replay: SVID_CSI_SEED={})",
                self.seed,
                self.seed
            );
        }
        let leader = self.led.last().copied();
        for _ in 0..200 {
            self.step();
        }
        assert_eq!(
            self.led.last().copied(),
            leader,
            "seed {}: the leader changed although everything works",
            self.seed
        );
        self.led
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |number| number.parse().unwrap())
}

#[test]
fn there_is_never_more_than_one_leader_and_soon_one() {
    let (first, seeds) = (number("SVID_CSI_SEED", 1), number("SVID_CSI_SEEDS", 12));
    let (mut steps, mut led, mut changes) = (0, 0, 0);
    for seed in first..first + seeds {
        let leaders = World::new(seed).run();
        steps += leaders.len();
        led += leaders.iter().flatten().count();
        changes += leaders.windows(2).filter(|two| two[1].is_some() && two[0] != two[1]).count();
    }
    println!("seeds {first} to {}: {steps} steps, {led} with a leader, {changes} times another", first + seeds - 1);
    assert!(seeds < 5 || (changes as u64 > 2 * seeds && led * 3 > steps), "nothing was tried: {led}, {changes}");
}

#[test]
fn a_run_is_a_function_of_its_seed() {
    assert_eq!(World::new(7).run(), World::new(7).run());
}
