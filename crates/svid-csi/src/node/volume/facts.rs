//! What the driver says about itself to `svid-csi doctor` and `svid-csi status`. It contains no secrets.

use std::path::Path;

use svid_csi_core::files::{FileName, FileNames};
use svid_csi_core::findings::facts::{
    AgentFacts, DriverFacts, FileFacts, IdentityFacts, LocalCaFacts, RootsFacts, VolumeFacts,
};
use svid_csi_core::renew;
use svid_csi_core::state::{Issued, Record};
use svid_csi_core::unix_time::seconds;
use svid_csi_core::volume::Content;

use super::Node;
use crate::delivery::workload_api::WorkloadApi;
use crate::host::fsx;
use crate::host::mount::Propagation;

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Everything but `pods_reach_host`, which only `/facts` needs; one volume after the other.
pub(in crate::node) async fn facts(node: &Node, setup: &DriverFacts) -> DriverFacts {
    let mut facts = setup.clone();
    let registered = node.registered.borrow().clone();
    for name in &mut facts.names {
        name.registered = registered.contains(&name.name);
    }
    facts.data_survives = node.data.as_ref().is_some_and(|data| data.survives());
    facts.agent = match &node.deliveries.socket_dir {
        Some(socket_dir) => Some(AgentFacts {
            path: text(&socket_dir.found_at().await),
            stable: socket_dir.stable().map(text),
            heals: socket_dir.heals(),
        }),
        None => None,
    };
    if let (Some(facts), Some(broker)) = (&mut facts.broker, &node.sources.broker) {
        facts.up = broker.is_up();
    }
    if let (Some(facts), Some(source)) = (&mut facts.cert_manager, &node.sources.cert_manager) {
        facts.up = source.is_up();
    }
    facts.pod_descriptors = node.deliveries.workload_api.as_ref().map(WorkloadApi::descriptors);
    facts.recent = node.reports.recent.all();
    facts.unread = node.store.all_unread().iter().map(ToString::to_string).collect();
    facts.local_ca = node.sources.local_ca.as_ref().map(|local_ca| LocalCaFacts { trouble: local_ca.trouble() });
    facts.roots = node.sources.roots().map(|roots| RootsFacts { nodes: roots.nodes(), trouble: roots.trouble() });
    let mut waiting = node.sources.waiting();
    let volumes = &mut facts.volumes;
    facts.busy = node
        .volumes
        .each(|volume| {
            let record = volume.record();
            let mut facts = of_volume(node, record);
            facts.waiting = waiting.remove(&record.spec.id);
            facts.failed = volume.renewal_trouble();
            facts.unfinished = volume.unfinished;
            volumes.insert(record.spec.id.to_string(), facts);
        })
        .await;
    // A volume that is being published is busy as long as it waits; its record says the rest.
    for (id, waiting) in waiting {
        if let Ok(Some(record)) = tokio::task::block_in_place(|| node.store.get(&id)) {
            facts.busy = facts.busy.saturating_sub(1);
            facts.volumes.insert(id.to_string(), VolumeFacts { waiting: Some(waiting), ..of_volume(node, &record) });
        }
    }
    facts
}

/// Whether mounts in the pods folder reach the host; `None` if that cannot be determined.
pub(in crate::node) fn reaches_host(pods: &str) -> Option<bool> {
    let pods = Path::new(pods);
    (fsx::exists(pods).ok()?).then(|| Propagation::read().ok().map(|mounts| mounts.reaches_host(pods, pods))).flatten()
}

fn of_volume(node: &Node, record: &Record) -> VolumeFacts {
    let spec = &record.spec;
    let requested = spec.subject().and_then(|subject| subject.identity.as_ref());
    let spiffe_id = requested.or_else(|| record.issued.as_ref()?.spiffe_id.as_deref()).map(ToString::to_string);
    let (files, sockets) = match &spec.content {
        Content::Passthrough => (None, Vec::new()),
        Content::Files(files) => (names(&files.names), Vec::new()),
        Content::WorkloadApi(socket) => (None, socket.sockets.iter().map(|name| name.as_str().to_owned()).collect()),
    };
    VolumeFacts {
        driver: record.driver.clone(),
        plan: spec.plan().to_string(),
        phase: record.phase.name().to_owned(),
        pod: spec.pod.as_ref().map(ToString::to_string),
        target: text(spec.target.path()),
        root: record.root,
        spiffe_id,
        identity: record.issued.as_ref().map(of_identity),
        waiting: None,
        failed: None,
        unfinished: false,
        withdrawn: record.withdrawn,
        adopted: record.adopted.is_some(),
        files,
        sockets,
        connections: node
            .deliveries
            .workload_api
            .as_ref()
            .and_then(|api| api.usage(&spec.id))
            .map(|usage| usage.connections),
    }
}

/// Layouts may have neither.
fn names(names: &FileNames) -> Option<FileFacts> {
    let text = |name: &FileName| name.as_str().to_owned();
    let (certificate, key) = (names.cert.as_ref().map(text)?, names.key.as_ref().map(text)?);
    Some(FileFacts { certificate, key, bundle: names.bundle.as_ref().map(text) })
}

fn of_identity(issued: &Issued) -> IdentityFacts {
    IdentityFacts {
        serial: issued.serial.clone(),
        not_before: seconds(issued.validity.not_before),
        not_after: seconds(issued.validity.not_after),
        renewal: seconds(renew::due(&issued.validity, 0.5)),
        untrusted: issued.untrusted.as_deref().map(str::to_owned),
    }
}
