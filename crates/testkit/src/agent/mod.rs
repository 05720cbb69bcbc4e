//! A scripted SPIFFE agent: the Workload API for the driver itself, and the Broker API over mutual TLS, as SPIRE 1.15
//! serves them.
//!
//! While no entry matches a pod, its subscription gets an empty list and stays open. Name and UID of a pod must agree.
//! The metadata must hold `broker.spiffe.io: true` exactly once. Only the driver's own SPIFFE ID is admitted. Changes
//! reach every open stream at once.
//!
//! ```no_run
//! # async fn example() {
//! use std::path::Path;
//! use svid_csi_testkit::agent::{Agent, Entry};
//! use svid_csi_testkit::pod;
//!
//! let agent = Agent::start(Path::new("/tmp/node"));
//! agent.register(&pod("cart"), &[Entry::new("spiffe://example.org/ns/shop/sa/cart")]);
//! // ... start a driver, publish a volume ...
//! agent.until("a subscription", || (agent.subscriptions().now == 1).then_some(())).await;
//! agent.rotate(&pod("cart"));
//! agent.withdraw(&pod("cart"));
//! # }
//! ```

mod authority;
mod broker;
mod connection;
mod entry;
mod follow;
mod header;
mod jwt;
mod listener;
mod workload;
mod world;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use svid_csi::demo::kubelet::Pod;
use svid_csi_core::spiffe_id::TrustDomain;
use svid_csi_proto::workload::X509svidResponse;
use tonic::Status;

pub use self::authority::Server;
pub use self::entry::{Answer, Entry};
use self::listener::{Places, Running};
pub use self::world::{Call, Count, ForEveryone, SpoilBundles, SpoilTokens};
use self::world::{World, WorldState};
use crate::pulse::Pulse;

/// The driver's own SPIFFE ID.
pub const DRIVER: &str = "spiffe://example.org/svid-csi";

/// The agent. It ends when dropped.
pub struct Agent {
    world: Arc<World>,
    places: Mutex<Places>,
    running: Mutex<Option<Running>>,
}

impl Agent {
    /// Starts an agent of `example.org`: the Workload API on `agent/agent.sock` and the Broker API on `broker/api.sock`
    /// in that folder, and on a TCP port of its own.
    ///
    /// # Panics
    /// If it cannot listen.
    pub fn start(folder: &Path) -> Self {
        let agent = Self::prepared(folder);
        agent.resume();
        agent
    }

    /// Creates one that does not listen yet.
    ///
    /// # Panics
    /// Never.
    pub fn prepared(folder: &Path) -> Self {
        let trust_domain = TrustDomain::parse("example.org").expect("a name");
        Self::at(&trust_domain, folder.join("agent/agent.sock"), folder.join("broker/api.sock"), DRIVER)
    }

    /// An agent with these sockets that admits that broker and does not listen yet.
    pub fn at(trust_domain: &TrustDomain, workload_api: PathBuf, broker: PathBuf, driver: &str) -> Self {
        let broker_address = Some((Ipv4Addr::LOCALHOST, 0).into());
        let places = Mutex::new(Places { workload_api, broker, broker_address });
        Agent { world: Arc::new(World::new(trust_domain, driver)), places, running: Mutex::default() }
    }

    /// Ends all connections and refuses new ones; its sockets stay, as after a crash. All registrations stay.
    pub fn stop(&self) {
        drop(self.running().take());
    }

    /// Listens again: on new sockets of the same names, and on the same port.
    ///
    /// # Panics
    /// If it cannot listen.
    pub fn resume(&self) {
        let mut places = self.places();
        self.running().get_or_insert_with(|| {
            let (running, address) = Running::start(places.clone(), self.world.clone());
            places.broker_address = address;
            running
        });
    }

    /// Stops and starts, as if another agent replaced this one.
    pub fn restart(&self) {
        self.stop();
        self.resume();
    }

    /// The TCP port of the Broker API.
    ///
    /// # Panics
    /// If the agent has never listened.
    pub fn broker_address(&self) -> SocketAddr {
        self.places().broker_address.expect("an address")
    }

    /// Replaces the entries of a pod.
    pub fn register(&self, pod: &Pod, entries: &[Entry]) {
        self.world.change(|state| state.register(name(pod), &pod.uid, entries.to_vec()));
    }

    /// Replaces the entries of a pod, and changes the response to them before it is sent.
    pub fn register_spoiled(&self, pod: &Pod, entries: &[Entry], spoil: impl FnOnce(&mut X509svidResponse)) {
        self.world.change(|state| {
            state.register(name(pod), &pod.uid, entries.to_vec());
            if let Some(Answer::Svids(response)) = state.pods.get_mut(&pod.uid).map(|pod| &mut pod.current.answer) {
                spoil(response);
            }
        });
    }

    /// Registers entries for each unknown pod as soon as it is requested.
    pub fn register_everyone(&self, entries: ForEveryone) {
        self.world.change(|state| state.everyone = Some(entries));
    }

    /// Removes all entries of a pod.
    pub fn withdraw(&self, pod: &Pod) {
        self.register(pod, &[]);
    }

    /// Issues new SVIDs for a pod.
    pub fn rotate(&self, pod: &Pod) {
        self.world.change(|state| {
            let WorldState { pods, authority, .. } = state;
            if let Some(registered) = pods.get_mut(&pod.uid) {
                registered.current = registered.current.renewed(authority);
            }
        });
    }

    /// Replaces the response to a pod, whatever its entries are.
    pub fn respond(&self, pod: &Pod, answer: Answer) {
        self.world.change(|state| {
            if state.current(&pod.uid).is_none() {
                state.register(name(pod), &pod.uid, Vec::new());
            }
            state.pods.get_mut(&pod.uid).expect("registered").current.set(answer);
        });
    }

    /// Changes the response to a pod: federated bundles, revocation lists, or faults.
    pub fn edit(&self, pod: &Pod, change: impl FnOnce(&mut X509svidResponse)) {
        let mut response = self.response(pod);
        change(&mut response);
        self.respond(pod, Answer::Svids(response));
    }

    /// Sends a pod its last response once more.
    pub fn repeat(&self, pod: &Pod) {
        self.edit(pod, |_| {});
    }

    /// The response to a pod.
    pub fn response(&self, pod: &Pod) -> X509svidResponse {
        self.world
            .look(|state| state.current(&pod.uid).and_then(|current| current.response().cloned()))
            .unwrap_or_default()
    }

    /// Adds a root: first everyone receives it, then it signs.
    pub fn add_root(&self) {
        self.world.change(|state| {
            state.authority.add_root();
            state.publish_bundle();
        });
    }

    /// Adds a root whose intermediate signs from then on: everyone receives the root first.
    pub fn add_root_with_intermediate(&self) {
        self.world.change(|state| {
            state.authority.add_root_with_intermediate();
            state.publish_bundle();
        });
    }

    /// Adds a key that signs tokens: everyone receives it, and it signs from then on.
    pub fn add_jwt_key(&self) {
        self.world.change(|state| state.jwt.add());
    }

    /// How many keys there are for that.
    pub fn jwt_keys(&self) -> usize {
        self.world.look(|state| state.jwt.count())
    }

    /// Changes each later token, or no longer does.
    pub fn spoil_tokens(&self, spoil: Option<SpoilTokens>) {
        self.world.change(|state| state.spoil_tokens = spoil);
    }

    /// Changes the JWT bundles, or no longer does; everyone receives them.
    pub fn spoil_jwt_bundles(&self, spoil: Option<SpoilBundles>) {
        self.world.change(|state| {
            state.spoil_bundles = spoil;
            state.jwt.version += 1;
        });
    }

    /// Issues new SVIDs for everyone, the driver included.
    pub fn rotate_all(&self) {
        self.world.change(WorldState::reissue);
    }

    /// Removes all roots except the newest.
    pub fn drop_old_roots(&self) {
        self.world.change(|state| {
            state.authority.drop_old_roots();
            state.publish_bundle();
        });
    }

    /// Issues a new SVID for the driver.
    pub fn rotate_own(&self) {
        self.world.change(|state| state.own = state.own.renewed(&state.authority));
    }

    /// Replaces the entries of the driver itself.
    pub fn own(&self, entries: &[Entry]) {
        self.world.change(|state| {
            let before = Some(&state.own);
            state.own = entry::CurrentAnswer::new(entries.to_vec(), &state.authority, before);
        });
    }

    /// The response to the driver on the Workload API.
    pub fn own_response(&self) -> X509svidResponse {
        self.world.look(|state| state.own.response().cloned()).unwrap_or_default()
    }

    /// Replaces the response to the driver on the Workload API.
    pub fn respond_to_driver(&self, answer: Answer) {
        self.world.change(|state| state.own.set(answer));
    }

    /// Sets the admitted broker.
    pub fn brokers(&self, ids: &[&str]) {
        self.world.change(|state| state.brokers = ids.iter().map(|id| (*id).to_owned()).collect());
    }

    /// Sets the fault of the agent's end of later connections.
    pub fn server(&self, server: Server) {
        self.world.change(|state| state.server = server);
    }

    /// Sets whether every later call of a broker is refused. Open streams stay.
    pub fn refuse(&self, status: Option<Status>) {
        self.world.change(|state| state.refused = status);
    }

    /// The connections of brokers.
    pub fn connections(&self) -> Count {
        self.world.look(|state| state.connections)
    }

    /// The streams, on both APIs.
    pub fn subscriptions(&self) -> Count {
        self.world.look(|state| state.subscriptions)
    }

    /// All calls, in the order in which they came.
    pub fn calls(&self) -> Vec<Call> {
        self.world.look(|state| state.calls.clone())
    }

    /// The calls of one method.
    pub fn calls_of(&self, method: &str) -> Vec<Call> {
        self.calls().into_iter().filter(|call| call.method == method).collect()
    }

    /// Waits until `probe` returns something; it is called after every change, call and connection.
    ///
    /// # Panics
    /// If a minute has passed without a result. The message names `what`.
    pub async fn until<T>(&self, what: &str, probe: impl FnMut() -> Option<T>) -> T {
        self.pulse().until(what, probe).await
    }

    /// Notified of every change, call and connection.
    pub fn pulse(&self) -> &Pulse {
        &self.world.pulse
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent").field("places", &*self.places()).finish_non_exhaustive()
    }
}

fn name(pod: &Pod) -> String {
    format!("{}/{}", pod.namespace, pod.name)
}
