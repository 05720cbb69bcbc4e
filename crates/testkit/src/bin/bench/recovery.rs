//! How long the node is without its driver after SIGKILL.

use std::fs;

use anyhow::{Result, ensure};

use crate::driver::{Driver, Mode};
use crate::load::Load;
use crate::stage::Stage;
use svid_csi_testkit::measure::Figure;
use svid_csi_testkit::measure::median;

const VOLUMES: usize = 1000;
const STARTS: usize = 3;

/// From the start of the process to the first answered call, and to /readyz.
pub(crate) async fn measure(stage: &Stage) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (mode, name) in [(Mode::Passthrough, "passthrough"), (Mode::Files, "files")] {
        let floor = started(mode).await?.1;
        let (answered, ready) = recover(stage, mode).await?;
        let setting = format!("after kill -9, 1,000 {name} volumes");
        figures.push(Figure::new(format!("first answer {setting}"), answered, "s").floor(floor).at_most(1.0));
        figures.push(Figure::new(format!("/readyz {setting}"), ready, "s").floor(floor).at_most(1.0));
    }
    Ok(figures)
}

/// The medians, in seconds, of several startups with the same volumes.
async fn recover(stage: &Stage, mode: Mode) -> Result<(f64, f64)> {
    let volumes = stage.volumes("recovered", VOLUMES)?;
    let (mut driver, _) = Driver::start(mode).await?;
    let mut load = Load::new(&stage.kubelet, &driver.plugin().await?).await?;
    load.publish_at_once(&volumes).await?;
    let mounted = mounts_of_pods(stage)?;
    let (mut answered, mut ready) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        driver.kill()?;
        let (next, started) = Driver::start(mode).await?;
        answered.push(started.answered.as_secs_f64());
        ready.push(started.ready.as_secs_f64());
        driver = next;
        ensure!(mounts_of_pods(stage)? == mounted, "recovery changed what is mounted");
    }
    load = Load::new(&stage.kubelet, &driver.plugin().await?).await?;
    load.unpublish_at_once(&volumes).await?;
    Ok((median(answered), median(ready)))
}

/// A startup without volumes, in seconds.
async fn started(mode: Mode) -> Result<(f64, f64)> {
    Driver::start(mode).await?.0.kill()?;
    let (_driver, started) = Driver::start(mode).await?;
    Ok((started.answered.as_secs_f64(), started.ready.as_secs_f64()))
}

fn mounts_of_pods(stage: &Stage) -> Result<usize> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let pods = stage.kubelet.pods_dir();
    Ok(table
        .lines()
        .filter(|line| line.split(' ').nth(4).is_some_and(|point| point.starts_with(&*pods.to_string_lossy())))
        .count())
}
