//! Volumes with identities from an agent's Broker API: one connection for all of them.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use svid_csi::demo::kubelet::InlineVolume;
use svid_csi_proto::broker::KubernetesObjectReference;
use svid_csi_testkit::agent::{Agent, Entry};
use svid_csi_testkit::measure::{Figure, median, settled_memory};

use crate::driver::{Driver, Mode};
use crate::load::Load;
use crate::stage::Stage;

const VOLUMES: usize = 250;
const CHANGES: usize = 5;
const LIMIT: Duration = Duration::from_secs(60);

/// Connections, memory, and the time until all certificates are replaced.
pub(crate) async fn measure(stage: &Stage) -> Result<Vec<Figure>> {
    let agent = Agent::start(&Stage::path("spire"));
    agent.register_everyone(Arc::new(|pod: &KubernetesObjectReference| {
        let name = pod.key.as_ref().map(|key| key.name.as_str()).unwrap_or_default();
        vec![Entry::new(&format!("spiffe://example.org/pod/{name}"))]
    }));
    let (driver, _) = Driver::start(Mode::Broker).await?;
    let load = Load::new(&stage.kubelet, &driver.plugin().await?).await?;
    let volumes = stage.volumes("brokered", VOLUMES)?;
    load.publish_at_once(&volumes).await?;
    let rss = settled_memory(driver.pid())?.rss;
    let (connections, subscriptions) = (agent.connections().ever, agent.subscriptions().now);
    let mut changes = Vec::new();
    for _ in 0..CHANGES {
        changes.push(all_change(stage, &volumes, &agent).await?);
    }
    load.unpublish_at_once(&volumes).await?;
    let number = |count: usize| u32::try_from(count).map(f64::from);
    Ok(vec![
        Figure::new("connections to the broker, 250 volumes", number(connections)?, "").at_most(1.0),
        // The driver follows its own SVID too.
        Figure::new("subscriptions on it", number(subscriptions - 1)?, ""),
        Figure::new("RSS, 250 broker files volumes", rss, "MB"),
        Figure::new("all of 250 rotated by the agent, in files", median(changes), "s"),
    ])
}

/// The seconds from a rotation by the agent until every volume has another certificate.
async fn all_change(stage: &Stage, volumes: &[InlineVolume], agent: &Agent) -> Result<f64> {
    let shown = |volume: &InlineVolume| fs::read(stage.kubelet.target(volume).join("tls.crt")).unwrap_or_default();
    let before: Vec<_> = volumes.iter().map(shown).collect();
    let begun = Instant::now();
    agent.rotate_all();
    for (volume, before) in volumes.iter().zip(before) {
        while shown(volume) == before {
            if begun.elapsed() > LIMIT {
                bail!("a rotation does not reach {}", volume.pod.name);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    Ok(begun.elapsed().as_secs_f64())
}
