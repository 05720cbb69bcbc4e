//! From the kubelet's call to a certificate in the pod's volume.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures::{StreamExt, TryStreamExt, stream};
use svid_csi::demo::kubelet::{InlineVolume, Kubelet, Plugin};
use svid_csi_testkit::measure::{Figure, Sample, median};

use crate::floor::Asker;
use crate::world::World;

const ONE_BY_ONE: usize = 40;
const TOGETHER: u32 = 110;
/// The number of concurrent calls.
pub(crate) const AT_ONCE: usize = 16;
/// As long as a kubelet retries.
const PATIENCE: Duration = Duration::from_secs(120);

struct Round {
    floor: f64,
    single: f64,
    single_p99: f64,
    floor_per_second: f64,
    per_second: f64,
}

/// One at a time, and many at once.
pub(crate) async fn measure(world: &World, rounds: u32) -> Result<Vec<Figure>> {
    let terms = world.terms(Duration::from_secs(3600));
    let _approver = world.approver(&terms).await?;
    let (_driver, plugin) = world.driver(&terms).await?;
    let asker = Asker::new(world, &terms).await?;
    let mut taken = Vec::new();
    // The first round warms up connections and caches.
    for index in 0..=rounds {
        let round = round(world, &plugin, &asker, index).await?;
        if index > 0 {
            taken.push(round);
        }
    }
    let mid = |get: fn(&Round) -> f64| median(taken.iter().map(get));
    let (floor, floor_per_second) = (mid(|round| round.floor), mid(|round| round.floor_per_second));
    let (single, together) = ("publish to a certificate", format!("{TOGETHER} volumes, {AT_ONCE} at once"));
    Ok(vec![
        Figure::new(format!("{single} p50"), mid(|round| round.single), "ms")
            .floor(floor)
            .at_most(tenths(floor + 10.0)),
        Figure::new(format!("{single} p99"), mid(|round| round.single_p99), "ms").floor(floor),
        Figure::new(together, mid(|round| round.per_second), "/s")
            .floor(floor_per_second)
            .at_least(tenths(0.7 * floor_per_second)),
    ])
}

/// As a bound is read.
fn tenths(bound: f64) -> f64 {
    (bound * 10.0).round() / 10.0
}

async fn round(world: &World, plugin: &Plugin, asker: &Asker<'_>, index: u32) -> Result<Round> {
    let singles = world.volumes(&format!("single-{index}"), ONE_BY_ONE).await?;
    let many = world.volumes(&format!("together-{index}"), TOGETHER as usize).await?;
    let floor = asker.one_by_one(ONE_BY_ONE).await?.p50();
    let single = one_by_one(&world.kubelet, plugin, &singles).await?;
    let floor_per_second = asker.at_once(TOGETHER, AT_ONCE).await?;
    let begun = Instant::now();
    at_once(&world.kubelet, plugin, &many).await?;
    let per_second = f64::from(TOGETHER) / begun.elapsed().as_secs_f64();
    unpublish(&world.kubelet, plugin, &singles).await?;
    unpublish(&world.kubelet, plugin, &many).await?;
    Ok(Round { floor, single: single.p50(), single_p99: single.p99(), floor_per_second, per_second })
}

async fn one_by_one(kubelet: &Kubelet, plugin: &Plugin, volumes: &[InlineVolume]) -> Result<Sample> {
    let mut durations = Vec::with_capacity(volumes.len());
    for volume in volumes {
        let begun = Instant::now();
        kubelet.publish_within(plugin, volume, PATIENCE).await?;
        durations.push(begun.elapsed());
    }
    Ok(Sample::new(durations))
}

/// Publishes all of them, several at once.
pub(crate) async fn at_once(kubelet: &Kubelet, plugin: &Plugin, volumes: &[InlineVolume]) -> Result<()> {
    let published = stream::iter(volumes).map(|volume| kubelet.publish_within(plugin, volume, PATIENCE));
    published.buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await?;
    Ok(())
}

/// Unpublishes all of them.
pub(crate) async fn unpublish(kubelet: &Kubelet, plugin: &Plugin, volumes: &[InlineVolume]) -> Result<()> {
    let gone = stream::iter(volumes).map(|volume| kubelet.unpublish(plugin, volume));
    gone.buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await?;
    Ok(())
}
