//! Whether pods can start on this node, for `/readyz`. Checked on request only.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use svid_csi_core::findings::facts::DriverFacts;

use crate::node::volume::Node;

/// Ready: volumes are recovered, the kubelet has accepted every driver name, and each source has answered once.
///
/// A source that answered and is lost later keeps the driver ready, because running pods keep their identities, and a
/// restart or a halted rollout would not bring the source back.
#[derive(Debug, Clone)]
pub(crate) struct Readiness {
    node: Arc<Node>,
    /// The driver names that this process registers itself.
    names: Arc<BTreeSet<String>>,
    serves: Arc<AtomicBool>,
    answered: Arc<Mutex<BTreeSet<&'static str>>>,
}

impl Readiness {
    pub(super) fn new(node: &Arc<Node>, setup: &DriverFacts) -> Self {
        let registered_here = setup.names.iter().filter(|name| name.registration_socket.is_some());
        Self {
            node: node.clone(),
            names: Arc::new(registered_here.map(|name| name.name.clone()).collect()),
            serves: Arc::default(),
            answered: Arc::default(),
        }
    }

    /// Records that the driver answers the kubelet.
    pub(crate) fn serves(&self) {
        self.serves.store(true, Ordering::Relaxed);
    }

    /// # Errors
    /// What is missing.
    pub(super) async fn check(self) -> Result<(), String> {
        if !self.serves.load(Ordering::Relaxed) {
            return Err("the driver is starting".to_owned());
        }
        let missing: Vec<_> = self.names.difference(&self.node.registered.borrow()).cloned().collect();
        if !missing.is_empty() {
            return Err(format!("the kubelet has not accepted the registration of {}", missing.join(" and ")));
        }
        match self.silent_sources() {
            silent if silent.is_empty() => Ok(()),
            silent => Err(format!("the driver has not reached {} since it started", silent.join(" and "))),
        }
    }

    /// The sources that have never answered.
    fn silent_sources(&self) -> Vec<&'static str> {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        let mut silent = Vec::new();
        for (source, answers) in self.node.sources.answering() {
            if answers {
                answered.insert(source);
            } else if !answered.contains(source) {
                silent.push(source);
            }
        }
        silent
    }
}
