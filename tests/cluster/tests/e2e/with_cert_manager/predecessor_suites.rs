//! What the end-to-end tests of both predecessors check, as far as other tests do not.
//!
//! | they check | tested here by |
//! |---|---|
//! | csi-driver-spiffe: a request is approved; one with another duration, SPIFFE ID, usage or type of key is denied | `denials` |
//! | a changed bundle reaches every running pod | `rotation` |
//! | files can be read with the group of `fs-group`, and not with another | `only_the_group_of_the_attribute_reads_the_files` |
//! | a simple pod; an issuer that a ConfigMap names at runtime, another one, and none again | `issuer_switch` |
//! | the same with an issuer whose CA is not in the bundle | `crates/svid-csi/tests/node/cert_manager/wrong_certificates.rs` |
//! | spiffe-csi: two workloads get updates through the agent's socket, with a real SPIRE | `spire::socket`, `socket` |

use std::time::Duration;

use anyhow::ensure;
use serde_json::json;

use super::outages::set;
use super::stage::{Stage, play_with};
use crate::pods::PodSpec;

const FILES: [&str; 3] = ["/spiffe/tls.crt", "/spiffe/tls.key", "/spiffe/ca.crt"];

#[tokio::test]
async fn only_the_group_of_the_attribute_reads_the_files() {
    play_with("e2e-fs-group", Duration::from_secs(3600), async |stage: &Stage<'_>| {
        let bundle = set(stage).await?;
        let _approver = stage.approver(&[]).await?;
        stage.driver(&[&bundle]).await?;
        let driver = stage.driver_name();
        for (name, group, reads) in [("member", 1541, true), ("stranger", 123, false)] {
            let spec = PodSpec {
                attributes: json!({"spiffe.csi.cert-manager.io/fs-group": "1541"}),
                security: json!({"runAsUser": 1321, "runAsGroup": group}),
                ..PodSpec::new(name, &driver, vec!["/bin/sleep", "2147483647"])
            };
            let pod = stage.scene.run(&spec).await?;
            for file in FILES {
                let seen = pod.exec(&["cat", file]).await;
                let as_expected = if reads { seen.is_ok_and(|text| !text.is_empty()) } else { seen.is_err() };
                ensure!(as_expected, "{name} with group {group} and {file}");
            }
        }
        Ok(())
    })
    .await;
}
