//! Measures a release build of the driver as the kubelet does, over gRPC, and compares it with the cost of the kernel
//! and of an empty call in the same run. Works in a mount namespace of its own and leaves nothing behind.

mod broker;
mod chart;
mod cluster;
mod driver;
mod files;
mod floor;
mod footprint;
mod growth;
mod load;
mod passthrough;
mod recovery;
mod report;
mod stage;
mod stand_in;
mod workload_api;

use std::env;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use floor::FloorRange;
use report::{Measured, Report};
use stage::{Programs, Stage};
use svid_csi_testkit::mount_ns_command;

/// Set in the process that measures.
const INSIDE: &str = "SVID_CSI_BENCH_INSIDE";

/// Measures the driver. It does not fail if figures miss their targets, because on a busy machine they mean little.
#[derive(Parser)]
#[command(args_override_self = true)]
struct Args {
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
    /// The driver's binary. Default: `svid-csi` beside this program.
    #[arg(long)]
    driver: Option<PathBuf>,
    /// How often the latencies are measured; the median of all rounds counts.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// For how many seconds the idle driver is watched.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    idle_seconds: u64,
    /// Measure only this. Repeatable.
    #[arg(long)]
    only: Vec<Part>,
    /// Where the folders of the kubelet are, in a new folder. Default: beside this program, which is on a disk.
    #[arg(long)]
    kubelet_folder: Option<PathBuf>,
    /// Draw the charts of a JSON object that was printed, beside its file, and end.
    #[arg(long)]
    draw: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Passthrough,
    Files,
    WorkloadApi,
    Broker,
    Recovery,
    Memory,
    Idle,
    Size,
    /// Beside a stand-in that works like the predecessors.
    StandIn,
    /// How a publish becomes slower with the mounts and the volumes of a node, beside the stand-in.
    Growth,
    /// Passthrough once more with 20 namespaces that share the mounts. This comes last, because they stay.
    Peers,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(report) = &args.draw {
        return report::draw(report);
    }
    let this = env::current_exe()?;
    let driver = args.driver.clone().unwrap_or_else(|| this.with_file_name("svid-csi"));
    if env::var_os(INSIDE).is_none() {
        return enter_namespace();
    }
    let programs = Programs { driver, stand_in: this.with_file_name("predecessor") };
    let disk = args.kubelet_folder.clone().or_else(|| this.parent().map(PathBuf::from)).context("no folder")?;
    let mut stage = Stage::set(&programs, &disk)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (measured, floors) = runtime.block_on(measure(&args, &mut stage))?;
    Report::new(args.rounds, stage.file_system()?, floors, measured)?.print(args.json)
}

/// This process becomes the measuring one, so that the namespace and all its mounts disappear when it ends, for any
/// reason.
fn enter_namespace() -> Result<()> {
    let Some(mut command) = mount_ns_command() else {
        bail!("the benchmark mounts, and needs root or unprivileged user namespaces (util-linux unshare)");
    };
    let this = env::current_exe()?;
    let failed = command.arg(this).args(env::args_os().skip(1)).env(INSIDE, "1").exec();
    Err(failed).context("unshare")
}

async fn measure(args: &Args, stage: &mut Stage) -> Result<(Measured, FloorRange)> {
    let wanted = |part: &&Part| args.only.is_empty() || args.only.contains(*part);
    let (last, first): (Vec<Part>, Vec<Part>) =
        Part::value_variants().iter().filter(wanted).partition(|part| **part == Part::Peers);
    let before = floor::measure(stage).await?;
    let mut measured = Measured::default();
    for part in first {
        measure_part(part, args, stage, &mut measured).await?;
    }
    let after = floor::measure(stage).await?;
    for part in last {
        measure_part(part, args, stage, &mut measured).await?;
    }
    Ok((measured, FloorRange { before, after }))
}

async fn measure_part(part: Part, args: &Args, stage: &mut Stage, measured: &mut Measured) -> Result<()> {
    let figures = match part {
        Part::Passthrough => passthrough::measure(stage, args.rounds).await?,
        Part::Files => files::measure(stage, args.rounds).await?,
        Part::WorkloadApi => workload_api::measure(stage).await?,
        Part::Broker => broker::measure(stage).await?,
        Part::Recovery => recovery::measure(stage).await?,
        Part::Memory => footprint::memory(stage).await?,
        Part::Idle => footprint::idle(stage, Duration::from_secs(args.idle_seconds)).await?,
        Part::Size => footprint::size()?,
        Part::StandIn => stand_in::measure(stage, args.rounds).await?,
        Part::Growth => {
            measured.growth = growth::measure(stage).await?;
            Vec::new()
        }
        Part::Peers => passthrough::measure_many_peers(stage).await?,
    };
    measured.figures.extend(figures);
    Ok(())
}
