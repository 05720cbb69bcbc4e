//! Measures a release build of driver and approver with a real API server and the real cert-manager, and compares it
//! with the cost of a bare request in the same run. `tests/cluster/bench` starts and stops all of it.

mod approver;
mod bundle;
mod floor;
mod idle;
mod in_flight;
mod outcomes;
mod publish;
mod renewal;
mod scale;
mod world;

use std::io::{Write, stdout};
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use serde::Serialize;
use svid_csi_testkit::measure::{Figure, Machine, over, print_table};
use world::World;

/// Measures the driver with cert-manager as its source, and the approver. It does not fail if figures miss their
/// targets, because on a busy machine they mean little.
#[derive(Parser)]
#[command(name = "bench-cluster", args_override_self = true)]
struct Args {
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
    /// How often publishing is measured; the median of all rounds counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// For how many seconds the idle driver is watched.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    idle_seconds: u64,
    /// How many volumes are renewed.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    renewals: u32,
    /// How many requests, and as many pods, are in the cluster when the approver is measured.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    requests: u32,
    /// How many nodes are simulated with `--only scale`.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(10..))]
    nodes: u32,
    /// How many pods are on each of them.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pods_per_node: u32,
    /// For how many seconds their certificates are renewed, twice.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    scale_seconds: u64,
    /// Measure only this. Repeatable. `scale` is measured only if named: it fills the cluster, and takes long.
    #[arg(long)]
    only: Vec<Part>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Publish,
    Idle,
    Bundle,
    Renewal,
    Approver,
    Scale,
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    machine: Machine,
    rounds: u32,
    figures: Vec<Figure>,
    over: usize,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let world = World::set().await?;
    let measured = measure(&args, &world).await;
    let cleared = world.clear();
    let figures = measured?;
    cleared?;
    report(&args, figures)
}

async fn measure(args: &Args, world: &World) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for part in Part::value_variants() {
        if (args.only.is_empty() && *part != Part::Scale) || args.only.contains(part) {
            figures.extend(match part {
                Part::Publish => publish::measure(world, args.rounds).await?,
                Part::Bundle => bundle::measure(world).await?,
                Part::Idle => idle::measure(world, args.idle_seconds).await?,
                Part::Renewal => renewal::measure(world, args.renewals).await?,
                Part::Approver => approver::measure(world, args.requests).await?,
                Part::Scale => {
                    let size = scale::Size { nodes: args.nodes, pods_per_node: args.pods_per_node };
                    scale::measure(world, size, Duration::from_secs(args.scale_seconds)).await?
                }
            });
        }
    }
    Ok(figures)
}

fn report(args: &Args, figures: Vec<Figure>) -> Result<()> {
    let report = Report { machine: Machine::read()?, rounds: args.rounds, over: over(&figures), figures };
    let mut out = stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, &report)?;
        return Ok(writeln!(out)?);
    }
    let Machine { kernel, cores, load_average } = &report.machine;
    writeln!(out, "Linux {kernel}, {cores} cores, load average {load_average}, {} rounds\n", args.rounds)?;
    print_table(&mut out, &report.figures)
}
