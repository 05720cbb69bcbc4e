//! The resources that an idle driver uses.

use std::fs;
use std::time::Duration;

use anyhow::Result;

use crate::driver::{Driver, Mode};
use crate::load::Load;
use crate::stage::Stage;
use svid_csi_testkit::measure::Figure;
use svid_csi_testkit::measure::{Memory, processor_seconds, settled_memory};

/// Resident memory: without volumes, and with many.
pub(crate) async fn memory(stage: &Stage) -> Result<Vec<Figure>> {
    let (_, none) = with_volumes(stage, Mode::Files, 0).await?;
    let (pss, files) = with_volumes(stage, Mode::Files, 250).await?;
    let (passing_pss, passing) = with_volumes(stage, Mode::Passthrough, 5000).await?;
    Ok(vec![
        Figure::new("RSS, no volumes", none, "MB"),
        Figure::new("RSS, 250 files volumes", files, "MB").floor(none).at_most(12.0),
        Figure::new("PSS, 250 files volumes", pss, "MB"),
        Figure::new("RSS, 5,000 passthrough volumes", passing, "MB").floor(none).at_most(20.0),
        Figure::new("PSS, 5,000 passthrough volumes", passing_pss, "MB"),
    ])
}

/// PSS and RSS of a driver that has published that many volumes.
async fn with_volumes(stage: &Stage, mode: Mode, count: usize) -> Result<(f64, f64)> {
    let (driver, _) = Driver::start(mode).await?;
    let load = Load::new(&stage.kubelet, &driver.plugin().await?).await?;
    let volumes = stage.volumes("resident", count)?;
    load.publish_at_once(&volumes).await?;
    let Memory { rss, pss } = settled_memory(driver.pid())?;
    load.unpublish_at_once(&volumes).await?;
    Ok((pss, rss))
}

/// Processor time while a thousand volumes wait for their renewal.
pub(crate) async fn idle(stage: &Stage, watched: Duration) -> Result<Vec<Figure>> {
    let (driver, _) = Driver::start(Mode::Files).await?;
    let volumes = stage.volumes("idle", 1000)?;
    {
        let load = Load::new(&stage.kubelet, &driver.plugin().await?).await?;
        load.publish_at_once(&volumes).await?;
    }
    settled_memory(driver.pid())?;
    let before = processor_seconds(driver.pid())?;
    tokio::time::sleep(watched).await;
    let used = processor_seconds(driver.pid())? - before;
    let load = Load::new(&stage.kubelet, &driver.plugin().await?).await?;
    load.unpublish_at_once(&volumes).await?;
    let percent = used / watched.as_secs_f64() * 100.0;
    Ok(vec![Figure::new("idle CPU of a core, 1,000 files volumes", percent, "%").at_most(0.1)])
}

/// The whole content of the image except a few links.
pub(crate) fn size() -> Result<Vec<Figure>> {
    let bytes = u32::try_from(fs::metadata(Stage::path("svid-csi"))?.len())?;
    Ok(vec![Figure::new("release binary", f64::from(bytes) / 1e6, "MB").at_most(15.0)])
}
