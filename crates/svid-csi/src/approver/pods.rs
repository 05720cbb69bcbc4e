//! The pods behind requests, read on demand. The approver never reads all pods of the cluster.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::GetParams;
use kube::core::Request;
use kube::{Client, Resource};
use serde::Deserialize;
use svid_csi_core::approve::{Lookup, MAX_FACT_AGE, Mode, PodFacts, PodKey, Policy, Reads, Verdict};
use tracing::warn;

use super::text::Once;
use crate::host::clock;
use crate::kube::call::{CallError, within};
use crate::kube::error;

/// How long one read may take. The age of facts is counted from the start of the read.
const READ: Duration = Duration::from_secs(4);

/// The number of remembered pods at which outdated ones are removed.
const MANY: usize = 512;

/// The annotation of a pod that its kubelet created from a file (Kubernetes, `kubernetes.io/config.mirror`).
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Reads pods, each once for all concurrent callers, and caches them briefly.
pub(super) struct Pods {
    client: Client,
    remembered: Mutex<HashMap<PodKey, Arc<FactSlot>>>,
    logged: Once,
}

/// The holder of the lock reads; the others wait, and use its result.
type FactSlot = tokio::sync::Mutex<Option<Fact>>;

#[derive(Debug, Clone)]
struct Fact {
    /// The time since the machine was booted: a fact also ages while the machine sleeps.
    asked: Duration,
    lookup: Lookup,
}

impl Fact {
    fn is_fresh(&self) -> bool {
        clock::since_boot().saturating_sub(self.asked) < MAX_FACT_AGE
    }
}

impl Pods {
    pub(super) fn new(client: Client) -> Self {
        Self { client, remembered: Mutex::default(), logged: Once::default() }
    }

    /// Reads the pods, and settles the verdict with them.
    ///
    /// # Errors
    /// If a pod cannot be read, and is neither missing nor forbidden.
    pub(super) async fn decide(&self, reads: &Reads, policy: &Policy) -> Result<Verdict, CallError> {
        loop {
            let driver = async {
                match reads.driver() {
                    Some(driver) => self.look_up(driver, &policy.mode).await.map(Some),
                    None => Ok(None),
                }
            };
            let (pod, driver) = tokio::try_join!(self.look_up(reads.pod(), &policy.mode), driver)?;
            // While one was being read, the facts about the other may have become too old.
            if pod.is_fresh() && driver.as_ref().is_none_or(Fact::is_fresh) {
                return Ok(reads.decide(&pod.lookup, driver.as_ref().map(|driver| &driver.lookup), policy));
            }
        }
    }

    async fn look_up(&self, key: &PodKey, mode: &Mode) -> Result<Fact, CallError> {
        let slot = self.slot(key);
        let mut fact = slot.lock().await;
        if let Some(fact) = fact.as_ref().filter(|fact| fact.is_fresh()) {
            return Ok(fact.clone());
        }
        let asked = clock::since_boot();
        let lookup = self.read(key, mode).await?;
        Ok(fact.insert(Fact { asked, lookup }).clone())
    }

    fn slot(&self, key: &PodKey) -> Arc<FactSlot> {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= MANY {
            let is_of_use = |slot: &Arc<FactSlot>| {
                let fact = slot.try_lock();
                Arc::strong_count(slot) > 1 || fact.is_ok_and(|fact| fact.as_ref().is_some_and(Fact::is_fresh))
            };
            remembered.retain(|_, slot| is_of_use(slot));
        }
        remembered.entry(key.clone()).or_default().clone()
    }

    async fn read(&self, key: &PodKey, mode: &Mode) -> Result<Lookup, CallError> {
        let pods = Request::new(Pod::url_path(&(), Some(&key.namespace)));
        let get = pods.get(&key.name, &GetParams::default()).map_err(kube::Error::BuildRequest);
        let get = get.map_err(CallError::Failed)?;
        match within(READ, self.client.request::<Wire>(get)).await {
            Ok(pod) => Ok(Lookup::Found(pod.into())),
            Err(CallError::Failed(error)) if error::is_not_found(&error) => Ok(Lookup::Missing),
            Err(CallError::Failed(error)) if error::is_forbidden(&error) => {
                self.log_forbidden(mode, &error);
                Ok(Lookup::Forbidden)
            }
            Err(error) => Err(error),
        }
    }

    fn log_forbidden(&self, mode: &Mode, error: &kube::Error) {
        if !self.logged.is_new("pods") {
            return;
        }
        let error = error::describe(error);
        match mode {
            Mode::NodeBound { .. } => {
                warn!(error, "requests are left pending: node-bound mode needs the verb get on pods, in all namespaces")
            }
            _ => warn!(
                error,
                "the approver may not read pods, so it trusts the driver with every identity of a namespace that has a \
                 pod; grant the verb get on pods, or better: use --request-mode node-bound"
            ),
        }
    }
}

/// The fields of a pod that are used.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wire {
    metadata: WireMetadata,
    spec: WireSpec,
    status: WireStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WireMetadata {
    namespace: String,
    name: String,
    uid: String,
    annotations: Option<HashMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireSpec {
    service_account_name: String,
    node_name: String,
    volumes: Option<Vec<WireVolume>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WireVolume {
    csi: Option<WireCsi>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WireCsi {
    driver: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WireStatus {
    phase: String,
}

impl From<Wire> for PodFacts {
    fn from(Wire { metadata, spec, status }: Wire) -> Self {
        let volumes = spec.volumes.unwrap_or_default().into_iter();
        Self {
            namespace: metadata.namespace,
            name: metadata.name,
            uid: metadata.uid,
            service_account: spec.service_account_name,
            node: spec.node_name,
            phase: status.phase,
            is_mirror: metadata.annotations.unwrap_or_default().contains_key(MIRROR),
            csi_drivers: volumes.filter_map(|volume| volume.csi).map(|csi| csi.driver).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use svid_csi_testkit::api_server::{ApiServer, User};

    use super::*;
    use crate::host::simulated::{self, Machine, Random};

    #[tokio::test(start_paused = true)]
    async fn facts_are_read_again_after_the_machine_slept() {
        let machine = Machine { wall: SystemTime::UNIX_EPOCH, booted: Duration::ZERO, random: Random::new(1) };
        let (_simulated, server) = (simulated::begin(machine), ApiServer::start());
        server.users.accept("token", User::service_account("cert-manager", "approver"));
        server.permissions.everything();
        let pods = Pods::new(Client::new(server.service("token"), "default"));
        let text = |text: &str| text.to_owned();
        let key = PodKey { namespace: text("shop"), name: text("web-0"), uid: text("1f0c") };
        for (slept, reads) in [(0, 1), (1, 1), (3600, 2), (4, 2), (1, 3)] {
            simulated::change(|machine| machine.booted += Duration::from_secs(slept));
            assert_eq!(pods.look_up(&key, &Mode::Pod).await.unwrap().lookup, Lookup::Missing);
            assert_eq!(server.calls.count("get", "pods"), reads, "after {slept} s");
        }
    }
}
