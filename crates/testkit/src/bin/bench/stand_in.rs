//! The stand-in for the predecessors: the program `predecessor` of this crate, which handles volumes the way they do. It
//! is not one of them, and is faster than they are: its calls do nothing but the work that it imitates.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use svid_csi::demo::kubelet::Plugin;
use svid_csi_testkit::measure::{Figure, median, processor_seconds};
use tokio::time::sleep;

use crate::driver::{Driver, Mode};
use crate::floor::{self, Floor};
use crate::load::Load;
use crate::stage::{OTHER_MOUNTS, Stage, ending_with_us};

const LIMIT: Duration = Duration::from_secs(10);
const VOLUMES: usize = 200;
const FILES: usize = 20;
const WATCHED: Duration = Duration::from_secs(10);
const IDLE: usize = 250;

/// The predecessor that it works like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Like {
    /// Binds the agent's folder; reads mountinfo in each call.
    SpiffeCsi,
    /// Polls for each identity every 200 ms; a ticker per volume.
    CsiDriverSpiffe,
}

/// A running stand-in. It is killed when dropped; its volumes stay.
pub(crate) struct StandIn {
    child: Child,
    socket: PathBuf,
}

impl StandIn {
    /// Starts it and waits until it answers.
    pub(crate) async fn start(like: Like) -> Result<Self> {
        let socket = Stage::path("kubelet/plugins/stand-in.sock");
        let mut command = ending_with_us(Stage::path("predecessor"));
        command.args(["--driver-name=stand-in", "--node-id=bench"]).arg(format!("--endpoint={}", socket.display()));
        match like {
            Like::SpiffeCsi => command.arg("spiffe-csi").arg("--workload-api-socket-dir").arg(Stage::path("run/agent")),
            Like::CsiDriverSpiffe => command
                .args(["csi-driver-spiffe", "--renews", "--data-root"])
                .arg(Stage::path("stand-in"))
                .arg("--identity")
                .arg(identity()?),
        };
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().context("cannot start the stand-in")?;
        let stand_in = Self { child, socket };
        let begun = Instant::now();
        while stand_in.plugin().await.is_err() {
            ensure!(begun.elapsed() < LIMIT, "the stand-in does not answer");
            sleep(Duration::from_millis(5)).await;
        }
        Ok(stand_in)
    }

    pub(crate) async fn plugin(&self) -> Result<Plugin> {
        Ok(Plugin::connect(&self.socket).await?)
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder with files of the size of an identity, which it copies.
fn identity() -> Result<PathBuf> {
    let folder = Stage::path("stand-in-identity");
    fs::create_dir_all(&folder)?;
    for name in ["tls.crt", "tls.key", "ca.crt"] {
        fs::write(folder.join(name), [b'='; 1024])?;
    }
    Ok(folder)
}

/// One pass over the calls of a program. Times in milliseconds.
struct Round {
    floor: Floor,
    publish: f64,
    republish: f64,
    unpublish: f64,
    /// The processor time of the program for one publish and one unpublish.
    processor: f64,
}

impl Round {
    /// The publish without the cost of a call that does nothing.
    fn net(&self) -> f64 {
        self.publish - self.floor.probe
    }
}

/// The calls of the driver and of the stand-in in turn.
pub(crate) async fn measure(stage: &Stage, rounds: u32) -> Result<Vec<Figure>> {
    let (driver, _) = Driver::start(Mode::Passthrough).await?;
    let stand_in = StandIn::start(Like::SpiffeCsi).await?;
    let ours = Load::new(&stage.kubelet, &driver.plugin().await?).await?;
    let theirs = Load::new(&stage.kubelet, &stand_in.plugin().await?).await?;
    let mut figures = Vec::new();
    for (others, setting) in [(0, "0 other mounts"), (OTHER_MOUNTS, "5,000 other mounts")] {
        let others = stage.add_other_mounts(others)?;
        let mut taken = Vec::new();
        for _ in 0..rounds {
            let mine = round(stage, &ours, driver.pid()).await?;
            taken.push((mine, round(stage, &theirs, stand_in.child.id()).await?));
        }
        drop(others);
        figures.extend(compared(&taken, setting));
    }
    drop((driver, stand_in));
    figures.push(publish_to_files(stage).await?);
    figures.push(idle(stage).await?);
    Ok(figures)
}

async fn round(stage: &Stage, load: &Load<'_>, pid: u32) -> Result<Round> {
    let floor = floor::of(stage, load).await?;
    let volumes = stage.volumes("compared", VOLUMES)?;
    let begun = processor_seconds(pid)?;
    let publish = load.publish(&volumes).await?.p50();
    let published = processor_seconds(pid)?;
    let republish = load.publish(&volumes).await?.p50();
    let republished = processor_seconds(pid)?;
    let unpublish = load.unpublish(&volumes).await?.p50();
    let used = published - begun + processor_seconds(pid)? - republished;
    let processor = used * 1e3 / f64::from(u32::try_from(VOLUMES)?);
    Ok(Round { floor, publish, republish, unpublish, processor })
}

fn compared(rounds: &[(Round, Round)], setting: &str) -> Vec<Figure> {
    let driver = |get: fn(&Round) -> f64| median(rounds.iter().map(|(driver, _)| get(driver)));
    let stand_in = |get: fn(&Round) -> f64| median(rounds.iter().map(|(_, stand_in)| get(stand_in)));
    let figure = |name: &str, value, unit| Figure::new(format!("{name}, {setting}"), value, unit);
    type Of = fn(&Round) -> f64;
    let calls: [(&str, Of, Of); 4] = [
        ("publish p50", |round| round.publish, |round| round.floor.attach + round.floor.probe),
        ("republish p50", |round| round.republish, |round| round.floor.probe),
        ("unpublish p50", |round| round.unpublish, |round| round.floor.detach + round.floor.probe),
        ("CPU of publish and unpublish", |round| round.processor, |round| round.floor.probe),
    ];
    let mut figures = Vec::new();
    for (name, get, floor) in calls {
        let of_both = [("svid-csi", driver(get), driver(floor)), ("stand-in", stand_in(get), stand_in(floor))];
        for (program, value, floor) in of_both {
            let named = figure(&format!("{program} beside it: {name}"), value, "ms");
            figures.push(if name.starts_with("CPU") { named } else { named.floor(floor) });
        }
    }
    let ratio = median(rounds.iter().map(|(driver, stand_in)| stand_in.net() / driver.net()));
    figures.push(figure("stand-in to svid-csi: publish without an empty call", ratio, "x"));
    figures
}

async fn publish_to_files(stage: &Stage) -> Result<Figure> {
    let stand_in = StandIn::start(Like::CsiDriverSpiffe).await?;
    let load = Load::new(&stage.kubelet, &stand_in.plugin().await?).await?;
    let volumes = stage.volumes("polled", FILES)?;
    let publish = load.publish(&volumes).await?.p50();
    load.unpublish(&volumes).await?;
    Ok(Figure::new("stand-in: publish to files p50", publish, "ms"))
}

/// As in [`crate::footprint::idle`].
async fn idle(stage: &Stage) -> Result<Figure> {
    let stand_in = StandIn::start(Like::CsiDriverSpiffe).await?;
    let load = Load::new(&stage.kubelet, &stand_in.plugin().await?).await?;
    let volumes = stage.volumes("ticking", IDLE)?;
    load.publish_at_once(&volumes).await?;
    let before = processor_seconds(stand_in.child.id())?;
    sleep(WATCHED).await;
    let used = processor_seconds(stand_in.child.id())? - before;
    load.unpublish_at_once(&volumes).await?;
    Ok(Figure::new("stand-in: idle CPU of a core, 250 files volumes", used / WATCHED.as_secs_f64() * 100.0, "%"))
}
