//! Volumes with an identity from the embedded authority.

use anyhow::Result;

use crate::driver::{Driver, Mode};
use crate::floor::{self, Floor};
use crate::load::{AT_ONCE, Load};
use crate::stage::Stage;
use svid_csi_testkit::measure::Figure;
use svid_csi_testkit::measure::median;

const ONE_BY_ONE: usize = 200;
const TOGETHER: usize = 500;

struct Round {
    floor: Floor,
    publish: f64,
    publish_p99: f64,
    per_second: f64,
    unpublish: f64,
}

/// The cost of publishing and unpublishing.
pub(crate) async fn measure(stage: &Stage, rounds: u32) -> Result<Vec<Figure>> {
    let (driver, _) = Driver::start(Mode::Files).await?;
    let load = Load::new(&stage.kubelet, &driver.plugin().await?).await?;
    round(stage, &load).await?;
    let mut taken = Vec::new();
    for _ in 0..rounds {
        taken.push(round(stage, &load).await?);
    }
    let mid = |get: fn(&Round) -> f64| median(taken.iter().map(get));
    let floor = mid(|round| round.floor.attach + round.floor.probe);
    let unpublish_floor = mid(|round| round.floor.detach + round.floor.probe);
    let together = format!("local-ca publish to files, {AT_ONCE} at once");
    Ok(vec![
        Figure::new("local-ca publish to files p50", mid(|round| round.publish), "ms").floor(floor).at_most(1.5),
        Figure::new("local-ca publish to files p99", mid(|round| round.publish_p99), "ms").floor(floor),
        Figure::new(together, mid(|round| round.per_second), "/s").floor(mid(|round| round.floor.probes_per_second)),
        Figure::new("unpublish of files p50", mid(|round| round.unpublish), "ms").floor(unpublish_floor),
    ])
}

async fn round(stage: &Stage, load: &Load<'_>) -> Result<Round> {
    let floor = floor::of(stage, load).await?;
    let volumes = stage.volumes("single", ONE_BY_ONE)?;
    let publish = load.publish(&volumes).await?;
    let together = stage.volumes("together", TOGETHER)?;
    let per_second = load.publish_at_once(&together).await?;
    let unpublish = load.unpublish(&volumes).await?.p50();
    load.unpublish_at_once(&together).await?;
    Ok(Round { floor, publish: publish.p50(), publish_p99: publish.p99(), per_second, unpublish })
}
