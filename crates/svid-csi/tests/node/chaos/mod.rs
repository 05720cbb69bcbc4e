//! Chaos: a random plan of operations and faults against the real driver (docs/testing.md, "Chaos").
//!
//! `just chaos` passes its flags in `SVID_CSI_CHAOS`.

mod aim;
mod beliefs;
mod blows;
mod calls;
mod calm;
mod checks;
mod deeds;
mod heal;
mod plan;
mod random;
mod reader;
mod session;
mod shrink;
mod sight;
mod swarm;
mod world;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Parser;

use self::checks::Usage;
use self::plan::{Header, Line, Writer};
use self::session::{Outcome, Told, run};
use self::shrink::Replayed;
use self::swarm::Swarm;
use self::world::World;
use crate::fixture::test;

/// Random operations and faults against the real driver
#[derive(Debug, Parser)]
#[command(name = "just chaos", no_binary_name = true)]
struct Flags {
    /// The number that the plan is drawn from. Default: another one in each run.
    #[arg(long)]
    seed: Option<u64>,
    /// How long it draws new lines, or looks for a smaller plan, in minutes. Default: 1, or 20.
    #[arg(long)]
    minutes: Option<f64>,
    /// Nothing ends the driver; its memory and descriptors must not grow. Default of `--minutes`: 60.
    #[arg(long)]
    soak: bool,
    /// Does what a file says instead.
    #[arg(long, conflicts_with_all = ["seed", "soak"])]
    replay: Option<PathBuf>,
    /// Looks for the smallest part of a file that still fails.
    #[arg(long, conflicts_with_all = ["seed", "soak", "replay"])]
    shrink: Option<PathBuf>,
}

#[test]
#[ignore = "minutes: just chaos"]
fn chaos() {
    test(async || {
        let flags = std::env::var("SVID_CSI_CHAOS").unwrap_or_default();
        let flags = Flags::try_parse_from(flags.split_whitespace()).unwrap_or_else(|error| panic!("{error}"));
        match (&flags.replay, &flags.shrink) {
            (Some(file), _) => replay(file).await,
            (_, Some(file)) => smallest(file, of_minutes(flags.minutes.unwrap_or(20.0))).await,
            _ => {
                let seed = flags.seed.unwrap_or_else(random::fresh_seed);
                let minutes = flags.minutes.unwrap_or(if flags.soak { 60.0 } else { 1.0 });
                new(if flags.soak { Swarm::soak(seed) } else { Swarm::of(seed) }, of_minutes(minutes)).await;
            }
        }
    });
}

#[expect(clippy::print_stdout, reason = "what a test says is captured and shown by the test runner")]
fn say(text: &str) {
    println!("{text}");
}

/// Where plans are.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().join("target/chaos")
}

fn of_minutes(minutes: f64) -> Duration {
    Duration::from_secs_f64(minutes * 60.0)
}

/// Draws a plan for that long, and does it.
async fn new((header, mut swarm): (Header, Swarm), long: Duration) {
    let path = folder().join(format!("{}.jsonl", header.seed));
    let mut writer = Writer::create(&path, &header).unwrap();
    let until = Instant::now() + long;
    let mut last = World::last_lines(header.pods).into_iter();
    let outcome = run(header, |world| {
        let line = if Instant::now() < until {
            let beliefs = world.shared().beliefs.clone();
            swarm.next(&beliefs, world.driver)
        } else {
            last.next()?
        };
        writer.put(&line).unwrap();
        Some(line)
    });
    let outcome = outcome.await;
    report(&header, &outcome, &path);
    fail_if_violated(&outcome, &path);
    if header.soak {
        uses_no_more(&outcome.tally.at_rest);
    }
}

/// After warming up, the driver uses no more at the end than at the beginning: 5 % of memory, and no descriptor.
fn uses_no_more(at_rest: &[Usage]) {
    let of = |some: &[Usage]| {
        let mut sorted: Vec<_> = some.iter().map(|usage| usage.resident_kib).collect();
        sorted.sort_unstable();
        (sorted[sorted.len() / 2], some.iter().map(|usage| usage.descriptors).max().unwrap_or_default())
    };
    assert!(at_rest.len() >= 6, "too short to compare: {at_rest:?}");
    let third = at_rest.len() / 3;
    let (first, last) = (of(&at_rest[third..2 * third]), of(&at_rest[at_rest.len() - third..]));
    say(&format!(
        "soak: {} looks without volumes, {first:?} KiB and descriptors in the second third, {last:?} in the last",
        at_rest.len()
    ));
    assert!(last.0 * 100 <= first.0 * 105 && last.1 <= first.1, "{at_rest:?}");
}

/// Does what a file says.
async fn replay(path: &Path) {
    let (header, lines) = plan::read(path).unwrap();
    let outcome = replayed(header, &lines).await;
    report(&header, &outcome, path);
    fail_if_violated(&outcome, path);
}

async fn replayed(header: Header, lines: &[Line]) -> Outcome {
    let mut lines = lines.iter();
    run(header, |_| lines.next().cloned()).await
}

/// How much longer than the first failure a replay may take before it counts as one that does not fail.
const SLOWER: u32 = 2;
const MARGIN: Duration = Duration::from_secs(30);

/// Shrinks a plan that fails into a file beside it, for that long at most. The file always has the smallest one so far.
async fn smallest(path: &Path, long: Duration) {
    let (header, lines) = plan::read(path).unwrap();
    let (whole, smallest) = (lines.len(), path.with_extension("smallest.jsonl"));
    let began = Instant::now();
    let (mut replays, mut bound) = (0, None);
    let replay = async |candidate: &[Line]| {
        let left = long.saturating_sub(began.elapsed());
        if left.is_zero() {
            return Replayed::OutOfTime;
        }
        replays += 1;
        let outcome = tokio::time::timeout(bound.map_or(left, |bound| left.min(bound)), replayed(header, candidate));
        let ended = match outcome.await {
            Ok(Outcome { tally, violation: Some(Told { volume, .. }) }) => {
                bound.get_or_insert(tally.took * SLOWER + MARGIN);
                Replayed::Failed { lines: tally.steps, volume }
            }
            Ok(_) => Replayed::Passed,
            Err(_) if began.elapsed() >= long => Replayed::OutOfTime,
            Err(_) => Replayed::Passed,
        };
        say(&format!("{:.0} s, replay {replays} of {} lines: {ended}", began.elapsed().as_secs_f64(), candidate.len()));
        ended
    };
    let keep = |lines: &[Line]| {
        let mut writer = Writer::create(&smallest, &header).unwrap();
        lines.iter().for_each(|line| writer.put(line).unwrap());
    };
    match shrink::shrink(lines, replay, keep).await {
        Some(lines) => say(&format!(
            "{whole} lines shrunk to {} in {:.0} s and {replays} replays: {}",
            lines.len(),
            began.elapsed().as_secs_f64(),
            smallest.display()
        )),
        None => panic!("{} has not failed in {replays} replays", path.display()),
    }
}

/// The one line of a run.
fn report(header: &Header, Outcome { tally, violation }: &Outcome, path: &Path) {
    let fired: usize = tally.faults.values().map(|(_, fired)| fired).sum();
    let faults: Vec<_> = tally.faults.iter().map(|(name, (tried, fired))| format!("{name} {fired}/{tried}")).collect();
    let published: usize = tally.published.values().sum();
    let shapes: Vec<_> = tally.published.iter().map(|(shape, number)| format!("{shape:?} {number}")).collect();
    say(&format!(
        "chaos: seed {}, {} pods, certificates of {} s, {:.0} s: {} steps, {} heals, {published} publishes ({}), \
         {fired} faults fired ({}), {} aimed ones missed, {} kills, {} looks of readers, {} renewals seen, at most {} descriptors and {} MiB, \
         {} violations; {}",
        header.seed,
        header.pods,
        header.lifetime,
        tally.took.as_secs_f64(),
        tally.steps,
        tally.heals,
        shapes.join(", "),
        faults.join(", "),
        tally.missed,
        tally.kills,
        tally.looks,
        tally.renewals,
        tally.most.descriptors,
        tally.most.resident_kib / 1024,
        usize::from(violation.is_some()),
        path.display(),
    ));
}

fn fail_if_violated(outcome: &Outcome, path: &Path) {
    if let Some(Told { story, .. }) = &outcome.violation {
        panic!("{story}\nreplay it: just chaos --replay {0}\nshrink it: just chaos --shrink {0}", path.display());
    }
}
