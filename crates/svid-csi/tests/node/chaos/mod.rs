//! Chaos: a random plan of operations and faults against the real driver (docs/testing.md, "Chaos").
//!
//! `just chaos` passes its flags in `SVID_CSI_CHAOS`.

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

use self::plan::{Header, Line, Writer};
use self::session::{Outcome, run};
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
    /// How long it draws new lines, in minutes. Default: 1.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// Does what a file says instead.
    #[arg(long, conflicts_with = "seed")]
    replay: Option<PathBuf>,
    /// Looks for the smallest part of a file that still fails.
    #[arg(long, conflicts_with_all = ["seed", "replay"])]
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
            (_, Some(file)) => smallest(file).await,
            _ => new(flags.seed.unwrap_or_else(random::fresh_seed), flags.minutes).await,
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

/// Draws a plan, and does it.
async fn new(seed: u64, minutes: f64) {
    let (header, mut swarm) = Swarm::of(seed);
    let path = folder().join(format!("{seed}.jsonl"));
    let mut writer = Writer::create(&path, &header).unwrap();
    let until = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
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

/// Shrinks a plan that fails into a file beside it.
async fn smallest(path: &Path) {
    let (header, mut lines) = plan::read(path).unwrap();
    let mut tried = 0;
    lines = shrink::shrink(lines, async |candidate: &[Line]| {
        tried += 1;
        let fails = replayed(header, candidate).await.violation.is_some();
        say(&format!("replay {tried}: {} lines {}", candidate.len(), if fails { "fail" } else { "do not fail" }));
        fails
    })
    .await;
    let smallest = path.with_extension("smallest.jsonl");
    let mut writer = Writer::create(&smallest, &header).unwrap();
    lines.iter().for_each(|line| writer.put(line).unwrap());
    say(&format!("{} lines after {tried} replays: {}", lines.len(), smallest.display()));
}

/// The one line of a run.
fn report(header: &Header, Outcome { tally, violation }: &Outcome, path: &Path) {
    let fired: usize = tally.faults.values().map(|(_, fired)| fired).sum();
    let faults: Vec<_> = tally.faults.iter().map(|(name, (tried, fired))| format!("{name} {fired}/{tried}")).collect();
    let published: usize = tally.published.values().sum();
    let shapes: Vec<_> = tally.published.iter().map(|(shape, number)| format!("{shape:?} {number}")).collect();
    say(&format!(
        "chaos: seed {}, {} pods, certificates of {} s, {:.0} s: {} steps, {} heals, {published} publishes ({}), \
         {fired} faults fired ({}), {} kills, {} looks of readers, {} renewals seen, at most {} descriptors and {} MiB, \
         {} violations; {}",
        header.seed,
        header.pods,
        header.lifetime,
        tally.took.as_secs_f64(),
        tally.steps,
        tally.heals,
        shapes.join(", "),
        faults.join(", "),
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
    if let Some(story) = &outcome.violation {
        panic!("{story}\nreplay it: just chaos --replay {0}\nshrink it: just chaos --shrink {0}", path.display());
    }
}
