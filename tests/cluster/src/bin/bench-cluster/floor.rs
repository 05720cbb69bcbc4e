//! The lower limit: a request of a pod, created and awaited on an existing watch, with the same approver and the same
//! cert-manager. Keys and requests are created beforehand.

use std::time::Instant;

use anyhow::Result;
use futures::{StreamExt, TryStreamExt, stream};
use kube::Client;
use kube::api::{DeleteParams, ListParams};
use serde_json::Value;
use svid_csi_cluster::requests::{self, Terms};
use svid_csi_core::pod::PodRef;
use svid_csi_testkit::measure::Sample;

use crate::outcomes::Outcomes;
use crate::world::World;

/// A client that makes requests without a driver.
pub(crate) struct Asker<'a> {
    world: &'a World,
    terms: Terms,
    pod: PodRef,
    client: Client,
    outcomes: Outcomes,
}

impl<'a> Asker<'a> {
    pub(crate) async fn new(world: &'a World, terms: &Terms) -> Result<Self> {
        let pod = world.pod("asker").await?;
        let client = world.client_of(&pod).await?;
        Ok(Self { world, terms: terms.clone(), pod, client, outcomes: Outcomes::watch(world.requests()).await? })
    }

    pub(crate) async fn one_by_one(&self, count: usize) -> Result<Sample> {
        let mut durations = Vec::with_capacity(count);
        for object in self.objects(count)? {
            let begun = Instant::now();
            self.issue(&object).await?;
            durations.push(begun.elapsed());
        }
        self.forget().await?;
        Ok(Sample::new(durations))
    }

    /// The number per second.
    pub(crate) async fn at_once(&self, count: u32, at_once: usize) -> Result<f64> {
        let objects = self.objects(count as usize)?;
        let begun = Instant::now();
        let issued = stream::iter(&objects).map(|object| self.issue(object));
        issued.buffer_unordered(at_once).try_collect::<Vec<_>>().await?;
        let per_second = f64::from(count) / begun.elapsed().as_secs_f64();
        self.forget().await?;
        Ok(per_second)
    }

    async fn issue(&self, object: &Value) -> Result<()> {
        let issued = self.outcomes.of(object["metadata"]["name"].as_str().unwrap_or_default());
        requests::create(&self.client, object).await?;
        issued.await
    }

    fn objects(&self, count: usize) -> Result<Vec<Value>> {
        (0..count).map(|_| self.terms.request(&self.pod)).collect()
    }

    async fn forget(&self) -> Result<()> {
        self.world.requests().delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
        Ok(())
    }
}
