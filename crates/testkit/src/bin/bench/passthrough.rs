//! Volumes with the agent's sockets: what each call costs, on an empty node and on a full one.

use anyhow::Result;

use crate::driver::{Driver, Mode};
use crate::floor::{self, Floor};
use crate::load::{AT_ONCE, Load};
use crate::stage::{OTHER_MOUNTS, Stage};
use svid_csi_testkit::measure::Figure;
use svid_csi_testkit::measure::median;

const ONE_BY_ONE: usize = 300;
const TOGETHER: usize = 1500;

/// One pass over the calls.
struct Round {
    floor: Floor,
    publish: f64,
    publish_p99: f64,
    per_second: f64,
    republish: f64,
    unpublish: f64,
}

/// The rounds on an empty node and on one with other mounts, interleaved so that a busy minute affects both.
struct Rounds {
    empty: Vec<Round>,
    full: Vec<Round>,
}

/// With one other mount namespace, judged.
pub(crate) async fn measure(stage: &Stage, rounds: u32) -> Result<Vec<Figure>> {
    let rounds = measure_rounds(stage, rounds).await?;
    let mut figures = Vec::new();
    for (rounds, setting) in [(&rounds.empty, "0 other mounts"), (&rounds.full, "5,000 other mounts")] {
        let [publish, p99, per_second, republish, unpublish] = figures_of(rounds, setting);
        figures.push(publish.at_most(0.25));
        figures.push(p99);
        figures.push(per_second.at_least(4000.0));
        figures.push(republish.at_most(0.15));
        figures.push(unpublish.at_most(0.2));
    }
    let ratios = rounds.full.iter().zip(&rounds.empty).map(|(full, empty)| full.publish / empty.publish);
    figures.push(Figure::new("publish p50, 5,000 mounts to 0", median(ratios), "x").at_most(1.3));
    let ratios = rounds.full.iter().zip(&rounds.empty).map(|(full, empty)| empty.per_second / full.per_second);
    figures.push(Figure::new("time at 8 at once, 5,000 mounts to 0", median(ratios), "x").at_most(1.3));
    Ok(figures)
}

/// With 20, reported.
pub(crate) async fn measure_many_peers(stage: &mut Stage) -> Result<Vec<Figure>> {
    stage.add_peers(19)?;
    let rounds = measure_rounds(stage, 1).await?;
    let mut figures = Vec::new();
    for (rounds, setting) in [(&rounds.empty, "0 mounts, 20 peers"), (&rounds.full, "5,000 mounts, 20 peers")] {
        figures.extend(figures_of(rounds, setting));
    }
    Ok(figures)
}

async fn measure_rounds(stage: &Stage, count: u32) -> Result<Rounds> {
    let (driver, _) = Driver::start(Mode::Passthrough).await?;
    let load = Load::new(&stage.kubelet, &driver.plugin().await?).await?;
    round(stage, &load).await?;
    let mut rounds = Rounds { empty: Vec::new(), full: Vec::new() };
    for _ in 0..count {
        rounds.empty.push(round(stage, &load).await?);
        let others = stage.add_other_mounts(OTHER_MOUNTS)?;
        rounds.full.push(round(stage, &load).await?);
        drop(others);
    }
    Ok(rounds)
}

async fn round(stage: &Stage, load: &Load<'_>) -> Result<Round> {
    let floor = floor::of(stage, load).await?;
    let volumes = stage.volumes("single", ONE_BY_ONE)?;
    let publish = load.publish(&volumes).await?;
    let republish = load.publish(&volumes).await?.p50();
    let together = stage.volumes("together", TOGETHER)?;
    let per_second = load.publish_at_once(&together).await?;
    let unpublish = load.unpublish(&volumes).await?.p50();
    load.unpublish_at_once(&together).await?;
    Ok(Round { floor, publish: publish.p50(), publish_p99: publish.p99(), per_second, republish, unpublish })
}

/// Publish p50 and p99, publishes per second, republish and unpublish.
fn figures_of(rounds: &[Round], setting: &str) -> [Figure; 5] {
    let mid = |get: fn(&Round) -> f64| median(rounds.iter().map(get));
    let figure = |name: &str, value, unit, floor| Figure::new(format!("{name}, {setting}"), value, unit).floor(floor);
    let publish_floor = mid(|round| round.floor.attach + round.floor.probe);
    let together = format!("publish {AT_ONCE} at once");
    [
        figure("publish p50", mid(|round| round.publish), "ms", publish_floor),
        figure("publish p99", mid(|round| round.publish_p99), "ms", publish_floor),
        figure(&together, mid(|round| round.per_second), "/s", mid(|round| round.floor.probes_per_second)),
        figure("republish p50", mid(|round| round.republish), "ms", mid(|round| round.floor.probe)),
        figure(
            "unpublish p50",
            mid(|round| round.unpublish),
            "ms",
            mid(|round| round.floor.detach + round.floor.probe),
        ),
    ]
}
