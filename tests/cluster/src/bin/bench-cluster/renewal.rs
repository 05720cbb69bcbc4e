//! Many volumes that renew: how many requests wait at once, and at what intervals they are created.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use svid_csi_testkit::measure::Figure;
use tokio::time::timeout;

use crate::in_flight::{RequestCounts, begin};
use crate::publish::{at_once, unpublish};
use crate::world::World;

/// Long enough for all volumes to be published before the first is due.
const LIFETIME: Duration = Duration::from_secs(180);
/// The default of `--renewal-concurrency`.
const CONCURRENCY: f64 = 8.0;

pub(crate) async fn measure(world: &World, count: u32) -> Result<Vec<Figure>> {
    let terms = world.terms(LIFETIME);
    let _approver = world.approver(&terms).await?;
    let (driver, plugin) = world.driver(&terms).await?;
    let volumes = world.volumes("renewed", count as usize).await?;
    let begun = Instant::now();
    at_once(&world.kubelet, &plugin, &volumes).await?;
    let published = begun.elapsed().as_secs_f64();

    let due = begin(world.requests()).await?.until_issued(volumes.len());
    let due = timeout(2 * LIFETIME, due).await.context("not all volumes renewed")??;
    let asked = begin(world.requests()).await?.until_issued(volumes.len());
    let (said, asked) = tokio::join!(driver.renew(&["--all"]), timeout(2 * LIFETIME, asked));
    said?;
    let asked = asked.context("not all volumes renewed when asked to")??;
    unpublish(&world.kubelet, &plugin, &volumes).await?;
    Ok([figures(&format!("{count} volumes due"), &due), figures(&format!("{count} volumes, renew --all"), &asked)]
        .into_iter()
        .flatten()
        .chain([spread(count, &due, published)])
        .collect())
}

fn figures(what: &str, seen: &RequestCounts) -> Vec<Figure> {
    let busiest = u32::try_from(seen.busiest_second()).map_or(f64::NAN, f64::from);
    vec![
        Figure::new(format!("{what}: most in flight"), f64::from(seen.most), "requests").at_most(CONCURRENCY),
        Figure::new(format!("{what}: busiest second"), busiest, "/s"),
    ]
}

/// Volumes that were published at once would be due within the jitter of a tenth either way around 2/3 of the lifetime,
/// in addition to the time it took to publish them.
fn spread(count: u32, seen: &RequestCounts, published: f64) -> Figure {
    let window = LIFETIME.as_secs_f64() / 15.0 * 2.0;
    let what = format!("{count} volumes due: from first to last (published in {published:.0} s)");
    Figure::new(what, seen.span(), "s").at_least((0.8 * window).round())
}
