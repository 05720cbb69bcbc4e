//! What the kubelet believes about each volume, and what the pod may see in it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use svid_csi::demo::kubelet::{InlineVolume, Pod};
use svid_csi_testkit::pod;

use super::plan::{Shape, VOLUMES_A_POD};

/// The kubelet's belief about a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Belief {
    /// It never asked, or the last answer was final.
    Unmounted,
    /// Something may be there: it publishes again, or unpublishes.
    Uncertain,
    Mounted,
}

/// What another program has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tampering {
    /// What its pod sees.
    Mount,
    /// Only what the driver knows of it.
    Record,
}

/// A volume of a current pod.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub(crate) belief: Belief,
    /// What the pod asks for, if it asks.
    pub(crate) wanted: Option<Shape>,
    /// What the pod may see, as far as calls have been answered.
    pub(crate) may_be: Vec<Shape>,
    /// A publish has succeeded, and no one has unpublished it since: its pod runs, even if the kubelet is uncertain after a restart.
    pub(crate) in_use: bool,
    /// Twice the number of calls about it; odd while one is on its way.
    pub(crate) calls: u64,
    /// Another program has changed it since the last publish that succeeded.
    pub(crate) tampered: Option<Tampering>,
    /// When nothing may be left of it any more.
    pub(crate) gone: Option<Instant>,
}

impl Slot {
    const NEW: Slot = Slot {
        belief: Belief::Unmounted,
        wanted: None,
        may_be: Vec::new(),
        in_use: false,
        calls: 0,
        tampered: None,
        gone: None,
    };

    /// Its shape, if there is no doubt about it.
    pub(crate) fn shape(&self) -> Option<Shape> {
        match self.may_be[..] {
            [shape] if self.belief == Belief::Mounted => Some(shape),
            _ => None,
        }
    }
}

/// A volume of a pod that has ended.
#[derive(Debug, Clone)]
pub(crate) struct Former {
    pub(crate) id: String,
    pub(crate) volume: usize,
    pub(crate) target: PathBuf,
    /// When nothing may be left of it any more; not before the next startup of the driver if no one has unpublished it.
    pub(crate) gone: Option<Instant>,
}

/// The driver drops a volume that it has refused once the kubelet has not asked again for ten minutes.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(630);

/// All of them.
#[derive(Debug, Clone)]
pub(crate) struct Beliefs {
    pub(crate) slots: Vec<Slot>,
    /// How often each pod has ended.
    ended: Vec<usize>,
    /// Whether the agent has an entry for the pod.
    pub(crate) entitled: Vec<bool>,
    pub(crate) former: Vec<Former>,
}

impl Beliefs {
    pub(crate) fn of(pods: usize) -> Self {
        Beliefs {
            slots: vec![Slot::NEW; pods * VOLUMES_A_POD],
            ended: vec![0; pods],
            entitled: vec![true; pods],
            former: Vec::new(),
        }
    }

    /// The current pod with that number.
    pub(crate) fn pod(&self, number: usize) -> Pod {
        let mut pod = pod(&format!("p{number}"));
        pod.uid = format!("uid-of-p{number}-{}", self.ended[number]);
        pod
    }

    /// A volume as its pod describes it; without tokens.
    pub(crate) fn volume(&self, index: usize, shape: Shape) -> InlineVolume {
        let volume = InlineVolume::new(&self.pod(index / VOLUMES_A_POD), &format!("v{}", index % VOLUMES_A_POD));
        let with = |source: &str, delivery: &str, more: &[(&str, &str)]| {
            let plan = [("source", source), ("delivery", delivery)];
            let all = plan.iter().chain(more).map(|(name, value)| (format!("svid-csi/{name}"), *value));
            all.fold(volume.clone(), |volume, (name, value)| volume.attribute(&name, value))
        };
        match shape {
            Shape::Files => with("local-ca", "files", &[]),
            Shape::OtherNames => with("local-ca", "files", &OTHER_NAMES),
            Shape::Formats => with("local-ca", "files", &FORMATS).secret("pkcs12-password", "changeit"),
            Shape::Sockets => with("local-ca", "workload-api", &[]),
            Shape::Passthrough => with("socket", "socket-dir", &[]),
            Shape::BrokerFiles => with("broker", "files", &[]),
            Shape::BrokerSockets => with("broker", "workload-api", &[]),
            Shape::CertManager => with("cert-manager", "files", &[]),
            Shape::CertManagerSockets => with("cert-manager", "workload-api", &[]),
            Shape::Nonsense => with("local-ca", "files", &[("nonsense", "x")]),
        }
    }

    /// The volumes of a pod.
    pub(crate) fn volumes_of(pod: usize) -> std::ops::Range<usize> {
        pod * VOLUMES_A_POD..(pod + 1) * VOLUMES_A_POD
    }

    /// When a volume that was refused now must be forgotten.
    pub(crate) fn forgotten(now: Instant) -> Instant {
        now + FORGOTTEN_AFTER
    }

    /// The driver has started: it drops what no pod has, and waits again for what it was waiting for.
    pub(crate) fn started(&mut self, now: Instant) {
        for gone in self.slots.iter_mut().filter_map(|slot| slot.gone.as_mut()).filter(|gone| **gone > now) {
            *gone = Self::forgotten(now);
        }
        for former in &mut self.former {
            former.gone = Some(former.gone.map_or(now, |gone| if gone > now { Self::forgotten(now) } else { gone }));
        }
    }

    /// The pod is no longer there; one of the same name may follow.
    pub(crate) fn end(&mut self, pod: usize, former: Vec<Former>) {
        self.former.extend(former);
        self.ended[pod] += 1;
        self.slots[Self::volumes_of(pod)].fill(Slot::NEW);
        // The agent has an entry for every pod that it does not know yet.
        self.entitled[pod] = true;
    }
}

/// The SPIFFE ID that a pod has from a source.
pub(crate) fn spiffe_id(pod: usize, shape: Shape) -> String {
    if shape.is_of_agent() { agents_id(pod) } else { format!("spiffe://example.org/ns/shop/sa/p{pod}") }
}

/// The SPIFFE ID of a pod's entry.
pub(crate) fn agents_id(pod: usize) -> String {
    format!("spiffe://example.org/agent/p{pod}")
}

/// The names of chain, key and bundle.
pub(crate) fn names(shape: Shape) -> [&'static str; 3] {
    match shape {
        Shape::OtherNames => OTHER_NAMES.map(|(_, name)| name),
        _ => ["tls.crt", "tls.key", "ca.crt"],
    }
}

const OTHER_NAMES: [(&str, &str); 3] =
    [("file-cert", "svid.pem"), ("file-key", "svid_key.pem"), ("file-bundle", "bundle.pem")];
const FORMATS: [(&str, &str); 5] = [
    ("file-combined", "all.pem"),
    ("file-pkcs12", "key.p12"),
    ("file-pkcs12-bundle", "trust.p12"),
    ("file-bundle-json", "bundle.json"),
    ("audience", "vault"),
];
