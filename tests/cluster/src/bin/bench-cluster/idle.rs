//! The resources that the driver uses while its volumes wait for their renewal.

use std::time::Duration;

use anyhow::Result;
use svid_csi_testkit::measure::{Figure, processor_seconds, settled_memory};
use tokio::time::sleep;

use crate::publish::{at_once, unpublish};
use crate::world::World;

const VOLUMES: usize = 250;

pub(crate) async fn measure(world: &World, seconds: u64) -> Result<Vec<Figure>> {
    let terms = world.terms(Duration::from_secs(3600));
    let _approver = world.approver(&terms).await?;
    let (driver, plugin) = world.driver(&terms).await?;
    let none = settled_memory(driver.pid())?.rss;
    let volumes = world.volumes("idle", VOLUMES).await?;
    at_once(&world.kubelet, &plugin, &volumes).await?;
    let many = settled_memory(driver.pid())?.rss;
    let watched = Duration::from_secs(seconds);
    let before = processor_seconds(driver.pid())?;
    sleep(watched).await;
    let used = processor_seconds(driver.pid())? - before;
    unpublish(&world.kubelet, &plugin, &volumes).await?;
    let percent = used / watched.as_secs_f64() * 100.0;
    Ok(vec![
        Figure::new(format!("idle CPU of a core, {VOLUMES} volumes"), percent, "%").at_most(0.1),
        Figure::new(format!("RSS, {VOLUMES} volumes"), many, "MB").floor(none).at_most(16.0),
    ])
}
