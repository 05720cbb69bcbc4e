//! Faults of the pods behind a request.

use crate::approve::policy::Mode;
use crate::quoted::Quoted;

/// A rule that the pods behind a request break.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PodFault {
    /// No pod owns it, or several do.
    #[error("the request has {found} pods as owners instead of one")]
    Owner {
        /// How many.
        found: usize,
    },
    /// Not a valid name of a pod.
    #[error("{name} is not a name a pod can have")]
    Name {
        /// The name in the owner reference.
        name: Quoted,
    },
    /// One pod made a request for another.
    #[error("the request was created by the pod with UID {stamp}, but its owner is the pod with UID {owner}")]
    OwnerStamp {
        /// The owner's UID.
        owner: Quoted,
        /// The UID the API server stamped.
        stamp: Quoted,
    },
    /// The pod it is for.
    #[error("the request's pod {pod} {problem}")]
    Target {
        /// Namespace and name.
        pod: Quoted,
        /// The fault.
        problem: PodProblem,
    },
    /// The pod that created the request.
    #[error("the pod {pod}, which created the request, {problem}")]
    Driver {
        /// Namespace and name.
        pod: Quoted,
        /// The fault.
        problem: PodProblem,
    },
}

/// A fault of a pod.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PodProblem {
    /// It was deleted, or never existed.
    #[error("does not exist")]
    Missing,
    /// Another pod has its name.
    #[error("was replaced by another pod, with UID {uid}")]
    Other {
        /// The UID of the existing pod.
        uid: Quoted,
    },
    /// Its service account is another one.
    #[error("runs as {found}, not as {expected}")]
    Account {
        /// The expected service account.
        expected: Quoted,
        /// The actual service account.
        found: Quoted,
    },
    /// It is on another node, or on none.
    #[error("is on node {found}, not on {expected}")]
    Node {
        /// The expected node.
        expected: Quoted,
        /// The actual node.
        found: Quoted,
    },
    /// It will never run again.
    #[error("has ended ({phase})")]
    Finished {
        /// `Succeeded` or `Failed`.
        phase: Quoted,
    },
    /// A mirror pod: no one asked the API server to run it.
    #[error("is a mirror pod, which its node created by itself")]
    Mirror,
    /// It has no volume of the driver, so it did not ask for an identity.
    #[error("has no volume of the driver {driver}")]
    Volume {
        /// The driver.
        driver: Quoted,
    },
}

impl PodFault {
    pub(in crate::approve) fn class(&self) -> &'static str {
        match self {
            PodFault::Owner { .. } => "owner",
            PodFault::Name { .. } => "owner_name",
            PodFault::OwnerStamp { .. } => "owner_stamp",
            PodFault::Target { problem, .. } => match problem {
                PodProblem::Missing => "pod_missing",
                PodProblem::Other { .. } => "pod_uid",
                PodProblem::Account { .. } => "pod_account",
                PodProblem::Node { .. } => "pod_node",
                PodProblem::Finished { .. } => "pod_finished",
                PodProblem::Mirror => "pod_mirror",
                PodProblem::Volume { .. } => "pod_volume",
            },
            PodFault::Driver { problem, .. } => match problem {
                PodProblem::Missing => "driver_missing",
                PodProblem::Other { .. } => "driver_uid",
                PodProblem::Account { .. } => "driver_account",
                PodProblem::Node { .. } => "driver_node",
                PodProblem::Finished { .. } => "driver_finished",
                PodProblem::Mirror => "driver_mirror",
                PodProblem::Volume { .. } => "driver_volume",
            },
        }
    }
}

/// The classes of the reasons that only [`Reads::decide`](crate::approve::Reads::decide) gives: the rules that are not checked without a cluster.
pub fn cluster_rules(mode: &Mode) -> &'static [&'static str] {
    const ALL: [&str; 12] = [
        "pod_missing",
        "pod_uid",
        "pod_account",
        "pod_node",
        "pod_finished",
        "pod_mirror",
        "pod_volume",
        "driver_missing",
        "driver_uid",
        "driver_account",
        "driver_node",
        "driver_finished",
    ];
    match mode {
        Mode::Pod => &[],
        Mode::OwnServiceAccount { .. } => &["pod_missing", "pod_uid", "pod_account"],
        Mode::NodeBound { .. } => &ALL,
    }
}
