//! Values that are read when the metrics are requested.

/// The state of the volumes at the moment of the request.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// How many volumes there are of each plan and phase.
    pub volumes: Vec<(String, &'static str, i64)>,
    /// Seconds until the first certificate in use expires; negative if one has expired.
    pub soonest_expiry: Option<f64>,
    /// How many hold a certificate whose chain does not lead to their trust bundle.
    pub untrusted: i64,
    /// How source cert-manager is, if the driver has it.
    pub cert_manager: Option<SourceState>,
    /// How source broker is, if the driver has it.
    pub broker: Option<BrokerState>,
    /// The room that all volumes share, if there is a data root.
    pub room: Option<RoomState>,
    /// How the roots of all nodes are, if the driver reads them.
    pub local_ca_roots: Option<RootsState>,
}

/// The room that all volumes of the node share, in bytes.
#[derive(Debug)]
pub struct RoomState {
    /// All of it.
    pub size: u64,
    /// The used part.
    pub used: u64,
    /// The part reserved for volumes that are already published.
    pub reserve: u64,
}

/// How the roots of all nodes are.
#[derive(Debug)]
pub struct RootsState {
    /// Of how many nodes the authorities are trusted.
    pub nodes: usize,
    /// Whether nodes possibly do not trust each other.
    pub in_trouble: bool,
}

/// How the source broker is.
#[derive(Debug)]
pub struct BrokerState {
    /// Whether the driver is connected.
    pub up: bool,
    /// How many pods are followed.
    pub subscriptions: usize,
}

/// How a source is.
#[derive(Debug)]
pub struct SourceState {
    /// Whether the driver receives its updates.
    pub up: bool,
    /// How many volumes wait for their request.
    pub pending: usize,
    /// How many volumes wait for a token of the kubelet.
    pub waiting_for_token: usize,
}
