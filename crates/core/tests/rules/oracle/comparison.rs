//! Many inputs from a seed, and two verdicts on each.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::Write;
use std::time::Instant;

use super::{Program, Question, Reason, Rolls};

/// Which inputs are compared, and how.
pub(crate) struct Comparison<I> {
    pub(crate) name: &'static str,
    pub(crate) question: Question,
    /// Creates an input from choices.
    pub(crate) make: fn(&mut Rolls) -> I,
    /// The input for the program.
    pub(crate) encode: fn(&I) -> Vec<u8>,
    /// Compares our verdict with the answer of the program.
    pub(crate) compare: fn(&I, &str) -> Verdict,
    /// What one input costs, compared with the others: so many times fewer are created.
    pub(crate) cost: u64,
}

/// What the comparison of one input shows.
pub(crate) enum Verdict {
    /// Both accept it, and read the same.
    Accepted,
    /// Both refuse it.
    Refused,
    /// They differ, for that reason.
    Explained(Reason),
    /// They differ.
    Different(String),
}

/// The number of inputs (`SVID_CSI_INPUTS`).
pub(crate) fn inputs() -> u64 {
    number("SVID_CSI_INPUTS", 100_000)
}

/// The seed of the first input (`SVID_CSI_SEED`); each following input has the next seed.
pub(crate) fn seed() -> u64 {
    number("SVID_CSI_SEED", 0)
}

/// The number in an environment variable.
pub(crate) fn number(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().map_or(usual, |text| text.parse().expect("a number"))
}

impl<I: Debug> Comparison<I> {
    /// Compares everything, and shows the score.
    pub(crate) fn run(&self) {
        const BATCH: u64 = 512;
        let (started, mut program) = (Instant::now(), Program::start());
        let (first, count) = (seed(), inputs().div_ceil(self.cost));
        let (mut accepted, mut explained) = (0, BTreeMap::<Reason, u64>::new());
        for batch in (first..first + count).step_by(BATCH as usize) {
            let seeds: Vec<u64> = (batch..(first + count).min(batch + BATCH)).collect();
            let made: Vec<I> = seeds.iter().map(|seed| (self.make)(&mut Rolls::of(*seed))).collect();
            let answers = program.ask_all(self.question, &made.iter().map(self.encode).collect::<Vec<_>>());
            for ((seed, input), answer) in seeds.iter().zip(&made).zip(&answers) {
                match (self.compare)(input, answer) {
                    Verdict::Accepted => accepted += 1,
                    Verdict::Refused => {}
                    Verdict::Explained(reason) => *explained.entry(reason).or_default() += 1,
                    Verdict::Different(why) => self.fail(*seed, &why, &mut program),
                }
            }
        }
        let (name, took) = (self.name, started.elapsed().as_secs_f32());
        let line = format!(
            "{name}: {count} inputs from seed {first}, both accept {accepted}, explained {explained:?}, {took:.1} s"
        );
        writeln!(std::io::stdout(), "{line}").expect("it can be shown");
        // Inputs that are all refused would prove nothing.
        assert!(accepted * 20 > count || count < 1_000, "{line}");
    }

    fn fail(&self, seed: u64, why: &str, program: &mut Program) -> ! {
        let mut rolls = Rolls::of(seed);
        (self.make)(&mut rolls);
        let (reduced, reduced_why) = self.reduced(rolls.into_tape(), program);
        let reduced_why = if reduced_why.is_empty() { why } else { &reduced_why };
        panic!(
            "{}, seed {seed} (just oracles 1 {seed}): {why}\nreduced: {reduced_why}\n{:?}",
            self.name,
            (self.make)(&mut Rolls::repeat(&reduced))
        );
    }

    /// The choices with as many of them left out or made plain as possible, such that the verdicts still differ, and how.
    fn reduced(&self, mut tape: Vec<u64>, program: &mut Program) -> (Vec<u64>, String) {
        let mut last = String::new();
        let mut differs = |tape: &[u64]| {
            let input = (self.make)(&mut Rolls::repeat(tape));
            let answer = program.ask(self.question, &(self.encode)(&input));
            if let Verdict::Different(why) = (self.compare)(&input, &answer) { Some(why) } else { None }
        };
        let mut size = tape.len().next_power_of_two();
        while size > 0 {
            let mut at = 0;
            while at < tape.len() {
                let end = tape.len().min(at + size);
                let without = [&tape[..at], &tape[end..]].concat();
                let plain = [&tape[..at], &vec![0; end - at], &tape[end..]].concat();
                if let Some(why) = differs(&without) {
                    (tape, last) = (without, why);
                    continue;
                }
                if tape[at..end].iter().any(|choice| *choice != 0)
                    && let Some(why) = differs(&plain)
                {
                    (tape, last) = (plain, why);
                }
                at = end;
            }
            size /= 2;
        }
        (tape, last)
    }
}
