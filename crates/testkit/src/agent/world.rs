//! The agent's data, and the calls it has received.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use svid_csi_core::spiffe_id::TrustDomain;
use svid_csi_proto::broker::KubernetesObjectReference;
use svid_csi_proto::workload::{JwtBundlesResponse, JwtsvidResponse};
use tonic::Status;

use super::authority::{Authority, Server};
use super::entry::{Answer, CurrentAnswer, Entry};
use super::jwt::JwtKeys;
use crate::pulse::Pulse;

/// Registers each unknown pod as soon as it is requested.
pub type ForEveryone = Arc<dyn Fn(&KubernetesObjectReference) -> Vec<Entry> + Send + Sync>;

/// Changes the tokens of a response.
pub type SpoilTokens = Arc<dyn Fn(&mut JwtsvidResponse) + Send + Sync>;

/// Changes the JWT bundles for everyone.
pub type SpoilBundles = Arc<dyn Fn(&mut JwtBundlesResponse) + Send + Sync>;

/// A received call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The method, such as `SubscribeToX509SVID`.
    pub method: &'static str,
    /// The SPIFFE ID of the caller; empty on the Workload API.
    pub caller: String,
    /// The number of its connection, counted from 1; 0 on the Workload API.
    pub connection: usize,
    /// `namespace/name` of the requested pod; empty on the Workload API.
    pub pod: String,
    /// Its UID.
    pub uid: String,
}

/// The number of open connections or streams, and the total so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Open now.
    pub now: usize,
    /// Ever.
    pub ever: usize,
}

/// Everything, shared by all servers.
pub(super) struct World {
    pub(super) pulse: Pulse,
    state: Mutex<WorldState>,
}

pub(super) struct WorldState {
    pub(super) authority: Authority,
    pub(super) jwt: JwtKeys,
    pub(super) spoil_tokens: Option<SpoilTokens>,
    pub(super) spoil_bundles: Option<SpoilBundles>,
    pub(super) server: Server,
    pub(super) brokers: Vec<String>,
    pub(super) own: CurrentAnswer,
    pub(super) pods: BTreeMap<String, Registered>,
    pub(super) everyone: Option<ForEveryone>,
    pub(super) refused: Option<Status>,
    pub(super) calls: Vec<Call>,
    pub(super) connections: Count,
    pub(super) subscriptions: Count,
}

/// A pod.
pub(super) struct Registered {
    /// `namespace/name`.
    pub(super) pod: String,
    pub(super) current: CurrentAnswer,
}

impl World {
    pub(super) fn new(trust_domain: &TrustDomain, broker: &str) -> Self {
        let authority = Authority::new(trust_domain);
        let own = CurrentAnswer::new(vec![Entry::new(broker)], &authority, None);
        let state = WorldState {
            authority,
            jwt: JwtKeys::new(trust_domain),
            spoil_tokens: None,
            spoil_bundles: None,
            server: Server::Proper,
            brokers: vec![broker.to_owned()],
            own,
            pods: BTreeMap::new(),
            everyone: None,
            refused: None,
            calls: Vec::new(),
            connections: Count::default(),
            subscriptions: Count::default(),
        };
        World { pulse: Pulse::default(), state: Mutex::new(state) }
    }

    pub(super) fn look<T>(&self, look: impl FnOnce(&WorldState) -> T) -> T {
        look(&self.lock())
    }

    /// Changes something; every stream then checks whether it must send an update.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut WorldState) -> T) -> T {
        let changed = change(&mut self.lock());
        self.pulse.beat();
        changed
    }

    fn lock(&self) -> MutexGuard<'_, WorldState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WorldState {
    /// The response to the pod. One that was never registered has no entries.
    pub(super) fn current(&self, uid: &str) -> Option<&CurrentAnswer> {
        self.pods.get(uid).map(|registered| &registered.current)
    }

    /// Tokens of the pod that has `current`.
    pub(super) fn tokens(
        &self,
        current: Option<&CurrentAnswer>,
        audience: &[String],
    ) -> Result<JwtsvidResponse, Status> {
        let mut response = self.jwt.tokens(current, audience)?;
        if let Some(spoil) = &self.spoil_tokens {
            spoil(&mut response);
        }
        Ok(response)
    }

    /// The keys with which everyone validates tokens.
    pub(super) fn jwt_bundles(&self) -> JwtBundlesResponse {
        let mut response = self.jwt.bundles();
        if let Some(spoil) = &self.spoil_bundles {
            spoil(&mut response);
        }
        response
    }

    pub(super) fn register(&mut self, pod: String, uid: &str, entries: Vec<Entry>) {
        let before = self.pods.get(uid).map(|registered| &registered.current);
        let current = CurrentAnswer::new(entries, &self.authority, before);
        self.pods.insert(uid.to_owned(), Registered { pod, current });
    }

    /// The referenced pod, as SPIRE's agent resolves it: name and UID must belong to the same pod.
    pub(super) fn resolve(&mut self, reference: &KubernetesObjectReference) -> Result<(), Status> {
        let uid = &reference.uid;
        let asked = reference.key.as_ref().map(|key| format!("{}/{}", key.namespace, key.name));
        if let (false, Some(everyone)) = (self.pods.contains_key(uid), self.everyone.clone()) {
            self.register(asked.clone().unwrap_or_default(), uid, everyone(reference));
        }
        match (self.pods.get(uid), asked) {
            (Some(known), Some(asked)) if known.pod != asked => {
                Err(Status::not_found(format!("pod {asked} has another UID than {uid}")))
            }
            (None, asked) => {
                self.register(asked.unwrap_or_default(), uid, Vec::new());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// New SVIDs for everyone, signed by the newest root and with all roots as the bundle.
    pub(super) fn reissue(&mut self) {
        self.own = self.own.renewed(&self.authority);
        for registered in self.pods.values_mut() {
            if matches!(registered.current.answer, Answer::Svids(_)) {
                registered.current = registered.current.renewed(&self.authority);
            }
        }
    }

    /// Everyone keeps the SVIDs and receives the current roots.
    pub(super) fn publish_bundle(&mut self) {
        let bundle = self.authority.bundle();
        let pods = self.pods.values_mut().map(|registered| &mut registered.current);
        for current in pods.chain([&mut self.own]) {
            if let Answer::Svids(response) = &mut current.answer {
                response.svids.iter_mut().for_each(|svid| svid.bundle.clone_from(&bundle));
                current.version += 1;
            }
        }
    }
}
