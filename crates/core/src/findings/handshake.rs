//! Whether two pods trust each other: the result of handshakes with their identities.

use super::facts::Look;
use super::mounts::NO_VOLUME;
use super::{Category, Check, Report, Severity, word};

pub(super) const CHECKS: &[&Check] = &[&REFUSED, &NO_IDENTITY];

static REFUSED: Check = Check {
    id: "handshake-refused",
    category: Category::Identity,
    severity: Severity::Fault,
    title: "Two pods cannot connect over mutual TLS.",
    explanation: "Only with --from and --to, which let the identities of two pods meet in memory, each as client and as server. The \
                  finding names the side that ends the connection and its reason. If a chain does not lead to the bundle, the pods have different \
                  issuers, or one of them has an outdated bundle; if there is no bundle for a trust domain, they are not federated.",
};

static NO_IDENTITY: Check = Check {
    id: "pod-without-identity",
    category: Category::Identity,
    severity: Severity::Fault,
    title: "A pod has no identity to connect with.",
    explanation: "Only with --from and --to. The finding says why its volume cannot be read; `svid-csi doctor --pod` follows it to the \
                  step at which it stops. Volumes with the agent's own socket hold no identity: ask the agent for it, as the pod does.",
};

/// Whether a pod can take part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ready {
    /// It has an identity.
    Yes,
    /// The driver has no volume of it.
    NoVolume,
    /// Its volume holds none that can be used.
    No(String),
}

/// One handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// The pod (`namespace/name`) that connects.
    pub client: String,
    /// The pod that accepts.
    pub server: String,
    /// Why they are not connected.
    pub outcome: Look<()>,
}

impl Report {
    /// The findings about two pods, each with what is known of it, and about their handshakes.
    pub fn of_handshakes(pods: &[(String, Ready)], handshakes: &[Handshake]) -> Self {
        let mut report = Report::default();
        for (pod, ready) in pods {
            let fix = format!("svid-csi doctor --pod {}", word(pod));
            match ready {
                Ready::Yes => {}
                Ready::NoVolume => report.find(&NO_VOLUME, pod, "none of this node's volumes is for this pod", fix),
                Ready::No(why) => report.find(&NO_IDENTITY, pod, why, fix),
            }
        }
        for Handshake { client, server, outcome } in handshakes {
            if let Err(why) = outcome {
                let about = format!("{client} -> {server}");
                report.find(&REFUSED, about, why, "svid-csi doctor --category identity");
            }
        }
        report
    }
}
