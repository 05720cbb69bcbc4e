//! The approver with a cluster full of requests and pods. Nothing is signed, because cert-manager's controllers are
//! off; its webhook, which every approval passes through, is on.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watcher};
use svid_csi_cluster::cert_manager::DefaultApprover;
use svid_csi_cluster::requests::{self, condition};
use svid_csi_testkit::measure::{Figure, peak_memory, settled_memory};
use tokio::time::timeout;

use crate::world::{HANDS, World};

const PATIENCE: Duration = Duration::from_secs(600);

pub(crate) async fn measure(world: &World, count: u32) -> Result<Vec<Figure>> {
    let terms = world.terms(Duration::from_secs(3600));
    world.cert_manager.stop_controllers()?;
    stream::iter(0..count)
        .map(|index| async move { world.pod(&format!("bystander-{index}")).await })
        .buffer_unordered(HANDS)
        .try_collect::<Vec<_>>()
        .await?;
    let asker = world.pod("approved").await?;
    let client = world.client_of(&asker).await?;
    let created = stream::iter(0..count).map(|_| async { requests::create(&client, &terms.request(&asker)?).await });
    created.buffer_unordered(HANDS).try_collect::<Vec<_>>().await?;

    let seen = timeout(PATIENCE, async { tokio::join!(approvals(world, count), world.approver(&terms)) });
    let (rate, approver) = seen.await.context("not all requests were approved")?;
    let (rate, approver) = (rate?, approver?);
    let resident = settled_memory(approver.pid())?.rss;
    let peak = peak_memory(approver.pid())?;
    drop(approver);
    world.requests().delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    world.cert_manager.start_controllers(DefaultApprover::Off)?;
    let cluster = format!("{count} requests and as many pods");
    Ok(vec![
        Figure::new(format!("approvals, {cluster}"), rate, "/s").at_least(150.0),
        Figure::new(format!("approver's RSS after that, {cluster}"), resident, "MB").at_most(30.0),
        Figure::new("approver's peak RSS", peak, "MB"),
    ])
}

/// Approvals per second, from the first to the last.
async fn approvals(world: &World, count: u32) -> Result<f64> {
    let mut events = Box::pin(watcher(world.requests(), watcher::Config::default()).touched_objects());
    let mut first = None;
    let mut approved = std::collections::HashSet::new();
    while approved.len() < count as usize {
        let request = events.try_next().await?.context("the watch has ended")?;
        if condition(&request, "Approved").is_some() && approved.insert(request.name_any()) {
            first.get_or_insert_with(Instant::now);
        }
    }
    let first = first.context("nothing was approved")?;
    Ok(f64::from(count - 1) / first.elapsed().as_secs_f64())
}
