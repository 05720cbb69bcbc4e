//! How the cost of a publish grows: with the mounts of a node, and with the volumes of the driver.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::driver::{Driver, Mode};
use crate::floor;
use crate::load::Load;
use crate::stage::Stage;
use crate::stand_in::{Like, StandIn};

/// Mounts of others on the node. The kernel permits 100,000 in a namespace (fs.mount-max).
const MOUNTS: [u32; 6] = [0, 100, 1_000, 5_000, 20_000, 50_000];
/// Published volumes of the same program, the measured one included.
const VOLUMES: [u32; 5] = [1, 10, 100, 1_000, 5_000];
const CALLS: usize = 30;

/// A cost at several sizes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Growth {
    /// What grows.
    pub(crate) of: String,
    pub(crate) lines: Vec<Line>,
}

/// A line of a chart.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) name: String,
    /// Size, and p50 in milliseconds.
    pub(crate) points: Vec<(u32, f64)>,
}

impl Line {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), points: Vec::new() }
    }
}

/// Both, of the driver and of the stand-in, whose calls take turns at each size.
pub(crate) async fn measure(stage: &Stage) -> Result<Vec<Growth>> {
    let (driver, _) = Driver::start(Mode::Passthrough).await?;
    let stand_in = StandIn::start(Like::SpiffeCsi).await?;
    let ours = Load::new(&stage.kubelet, &driver.plugin().await?).await?;
    let theirs = Load::new(&stage.kubelet, &stand_in.plugin().await?).await?;
    publish(stage, &ours).await?;
    publish(stage, &theirs).await?;
    Ok(vec![with_mounts(stage, &ours, &theirs).await?, with_volumes(stage, &ours, &theirs).await?])
}

fn lines() -> [Line; 3] {
    ["svid-csi", "stand-in for spiffe-csi", "floor: the system calls and an empty call"].map(Line::new)
}

async fn with_mounts(stage: &Stage, ours: &Load<'_>, theirs: &Load<'_>) -> Result<Growth> {
    let [mut driver, mut stand_in, mut floor] = lines();
    for count in MOUNTS {
        let others = stage.add_other_mounts(usize::try_from(count)?)?;
        driver.points.push((count, publish(stage, ours).await?));
        stand_in.points.push((count, publish(stage, theirs).await?));
        let lowest = floor::of(stage, ours).await?;
        floor.points.push((count, lowest.attach + lowest.probe));
        drop(others);
    }
    Ok(Growth { of: "other mounts on the node".to_owned(), lines: vec![driver, stand_in, floor] })
}

async fn with_volumes(stage: &Stage, ours: &Load<'_>, theirs: &Load<'_>) -> Result<Growth> {
    let [mut driver, mut stand_in, mut floor] = lines();
    for (line, load) in [(&mut driver, ours), (&mut stand_in, theirs)] {
        let volumes = stage.volumes("grown", usize::try_from(VOLUMES[VOLUMES.len() - 1] - 1)?)?;
        let mut published = 0;
        for count in VOLUMES {
            let wanted = usize::try_from(count - 1)?;
            load.publish_at_once(&volumes[published..wanted]).await?;
            published = wanted;
            line.points.push((count, publish(stage, load).await?));
            let lowest = floor::of(stage, load).await?;
            floor.points.push((count, lowest.attach + lowest.probe));
        }
        load.unpublish_at_once(&volumes).await?;
    }
    // Of both, the one of the driver.
    floor.points.truncate(VOLUMES.len());
    Ok(Growth { of: "volumes of the driver".to_owned(), lines: vec![driver, stand_in, floor] })
}

async fn publish(stage: &Stage, load: &Load<'_>) -> Result<f64> {
    let volumes = stage.volumes("one-more", CALLS)?;
    let mut took = Vec::with_capacity(CALLS);
    // One at a time, so that their number stays what it is.
    for volume in volumes.chunks(1) {
        took.push(load.publish(volume).await?.p50());
        load.unpublish(volume).await?;
    }
    Ok(svid_csi_testkit::measure::median(took))
}
