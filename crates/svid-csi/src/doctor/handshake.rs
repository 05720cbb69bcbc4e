//! The identities of two pods meet in memory.

use svid_csi_core::findings::Report;
use svid_csi_core::findings::facts::DriverFacts;
use svid_csi_core::findings::handshake::{Handshake, Ready};

use super::delivered;
use super::paths::Paths;
use crate::spiffe::handshake::greet;
use crate::spiffe::svid::{Svid, SvidError};
use crate::telemetry::report;

/// Each pod (`namespace/name`) once as client and once as server.
pub(super) async fn between(driver: &DriverFacts, paths: &Paths, pods: [&str; 2]) -> Report {
    let [(one, first), (other, second)] =
        [identity(driver, paths, pods[0]).await, identity(driver, paths, pods[1]).await];
    let mut handshakes = Vec::new();
    if let (Some(first), Some(second)) = (&first, &second) {
        for ((client, from), (server, to)) in
            [((pods[0], first), (pods[1], second)), ((pods[1], second), (pods[0], first))]
        {
            let outcome = meet(from, to).await;
            handshakes.push(Handshake { client: client.to_owned(), server: server.to_owned(), outcome });
        }
    }
    Report::of_handshakes(&[(pods[0].to_owned(), one), (pods[1].to_owned(), other)], &handshakes)
}

async fn meet(client: &Svid, server: &Svid) -> Result<(), String> {
    let failed = |error: SvidError| report::chain(&error);
    let (of_client, of_server) = (client.leaf().map_err(failed)?.spiffe_id, server.leaf().map_err(failed)?.spiffe_id);
    greet(client, &of_server, server, &of_client).await.map_err(|error| report::chain(&error))
}

/// The identity in the first volume of a pod that holds one.
async fn identity(driver: &DriverFacts, paths: &Paths, pod: &str) -> (Ready, Option<Svid>) {
    let mut ready = Ready::NoVolume;
    for volume in driver.volumes.values().filter(|volume| volume.pod.as_deref() == Some(pod)) {
        match delivered::svid(volume, paths).await {
            Ok(svid) => return (Ready::Yes, Some(svid)),
            Err(why) => ready = Ready::No(why),
        }
    }
    (ready, None)
}
