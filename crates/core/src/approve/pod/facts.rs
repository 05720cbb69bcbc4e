//! Facts about pods that the rules use.

use std::time::Duration;

use crate::approve::fault::{PodFault, PodProblem};
use crate::quoted::Quoted;

/// The maximum age of facts about a pod that may settle a request.
pub const MAX_FACT_AGE: Duration = Duration::from_secs(5);

/// A pod to read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID, which distinguishes it from another pod of the same name.
    pub uid: String,
}

/// The facts about a pod that the rules use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodFacts {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `spec.serviceAccountName`.
    pub service_account: String,
    /// `spec.nodeName`; empty until the pod is scheduled.
    pub node: String,
    /// `status.phase`.
    pub phase: String,
    /// Whether it has the annotation `kubernetes.io/config.mirror`: its kubelet created it, from a file.
    pub is_mirror: bool,
    /// The `csi.driver` of each of its volumes that has one.
    pub csi_drivers: Vec<String>,
}

/// The result of reading a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// The pod exists.
    Found(PodFacts),
    /// There is no pod of that name.
    Missing,
    /// The approver may not read pods.
    Forbidden,
}

impl PodKey {
    /// A pod to read, if the name is valid for a pod (Kubernetes, DNS subdomain names). The author of an owner
    /// reference may write anything, and the name becomes a part of the path that is read.
    pub(super) fn new(namespace: &str, name: &str, uid: &str) -> Result<Self, PodFault> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
        if !(1..=253).contains(&name.len()) || !name.bytes().all(allowed) || name.starts_with('.') {
            return Err(PodFault::Name { name: Quoted::new(name) });
        }
        Ok(Self { namespace: namespace.to_owned(), name: name.to_owned(), uid: uid.to_owned() })
    }

    pub(super) fn quoted(&self) -> Quoted {
        Quoted::new(format!("{}/{}", self.namespace, self.name))
    }

    /// The pod itself; `None` if it may not be read.
    pub(super) fn find<'a>(&self, lookup: &'a Lookup) -> Result<Option<&'a PodFacts>, PodProblem> {
        match lookup {
            Lookup::Missing => Err(PodProblem::Missing),
            Lookup::Forbidden => Ok(None),
            Lookup::Found(facts) => {
                let found = (&facts.namespace, &facts.name, &facts.uid);
                if found == (&self.namespace, &self.name, &self.uid) {
                    return Ok(Some(facts));
                }
                Err(PodProblem::Other { uid: Quoted::new(&facts.uid) })
            }
        }
    }
}

impl PodFacts {
    pub(super) fn not_on(&self, node: &str) -> Option<PodProblem> {
        let elsewhere = self.node != node;
        elsewhere.then(|| PodProblem::Node { expected: Quoted::new(node), found: Quoted::new(&self.node) })
    }

    pub(super) fn finished(&self) -> Option<PodProblem> {
        let finished = matches!(&*self.phase, "Succeeded" | "Failed");
        finished.then(|| PodProblem::Finished { phase: Quoted::new(&self.phase) })
    }
}
