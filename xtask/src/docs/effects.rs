//! What the driver does on a node, from the traces that its tests compare with the real driver.

mod steps;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use self::steps::steps;

const TRACES: &str = "crates/svid-csi/tests/node/effects/traces";

const HEAD: &str = "\
# What happens on the node

Everything that the driver changes on a node, in order, for each operation. Each line is one or more system calls. This page is
generated from the traces in `crates/svid-csi/tests/node/effects/traces`, which the tests compare with what the real driver does.

What the driver does next after a kill or a failure at any of these lines is also tested: see [Testing](../testing.md). Two
rules explain most of the order:

- **The record comes first.** Before a step that a restart has to know about, the driver writes the volume's record, so that the next
  start continues or removes what the last one has begun.
- **What may fail comes before what takes away.** A pod keeps its files and its mount until the next ones are complete.

`<data>` is the tmpfs in the data root, `<target>` the path at which the kubelet expects the volume, and `<moment>` a folder named after
the current time.
";

/// The plans by the names of their traces, with their titles.
const PLANS: [(&str, &str); 9] = [
    ("files", "Files of the local CA"),
    ("formats", "All formats, with tokens and a password"),
    ("sockets", "A Workload API of the local CA"),
    ("passthrough", "The agent's sockets"),
    ("roots", "Files of the local CA, with the roots of other nodes"),
    ("broker-files", "Files, from an agent"),
    ("broker-sockets", "A Workload API, from an agent"),
    ("cert-manager-files", "Files, from cert-manager"),
    ("cert-manager-sockets", "A Workload API, from cert-manager"),
];

/// The operations by the names of their traces, with their titles and what happens before.
const OPERATIONS: [(&str, &str, &str); 14] = [
    ("first-start", "First startup", "On a node where the driver has never run."),
    ("start", "Startup with a volume", "The tmpfs and the volume's record exist."),
    ("start-private", "Startup after the data root became private", "The tmpfs and the volume's record on it exist."),
    ("publish", "Publish", "The kubelet requests the volume of a new pod."),
    ("republish", "Publish as something else", "The pod already has the volume, with other names or another delivery."),
    (
        "adoption",
        "Adoption",
        "csi-driver-spiffe has mounted the volume, and its pod runs. The first renewal follows at once.",
    ),
    ("renewal", "Renewal", "The source has issued the next identity."),
    ("bundle", "Trust bundle update", "Another CA is trusted; the certificate stays."),
    ("entry", "A lost entry among the roots", "The ConfigMap no longer has the node's own roots."),
    ("tokens", "Token update", "The keys that sign tokens have changed."),
    ("password", "Another password", "The kubelet brings another password for the PKCS#12 files."),
    ("withdrawal", "Withdrawal", "The source withdraws the pod's identity."),
    ("return", "A new identity after a withdrawal", "The source issues another one."),
    ("unpublish", "Unpublish", "The pod is gone."),
];

/// The page.
pub fn page(repo: &Path) -> Result<String> {
    let mut page = HEAD.to_owned();
    for (plan, title) in PLANS {
        page += &format!("\n## {title}\n");
        for (operation, title, before) in OPERATIONS {
            let path = repo.join(TRACES).join(format!("{plan}-{operation}.txt"));
            if !path.exists() {
                continue;
            }
            let trace = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            page += &format!("\n### {title} ({plan})\n\n{before}\n\n");
            for step in steps(&trace) {
                page += &format!("1. {step}\n");
            }
        }
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_trace_is_on_the_page() {
        let named = |plan: &str, operation: &str| format!("{plan}-{operation}.txt");
        let known: Vec<_> =
            PLANS.iter().flat_map(|(plan, _)| OPERATIONS.map(|(operation, ..)| named(plan, operation))).collect();
        for entry in fs::read_dir(crate::repository().unwrap().join(TRACES)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(known.contains(&name), "{name} belongs to no plan or operation of this page");
        }
    }
}
