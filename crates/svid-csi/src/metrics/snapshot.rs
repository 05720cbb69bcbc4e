//! What is looked up when somebody asks for the metrics.

/// What is true of the volumes at the moment somebody asks.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// How many volumes there are of each plan and phase.
    pub volumes: Vec<(String, &'static str, i64)>,
    /// Seconds until the first certificate in use expires; negative when one has.
    pub soonest_expiry: Option<f64>,
    /// How many hold a certificate whose chain does not lead to their trust bundle.
    pub untrusted: i64,
    /// How source cert-manager is, where the driver has it.
    pub cert_manager: Option<SourceState>,
    /// How source broker is, where the driver has it.
    pub broker: Option<BrokerState>,
    /// The room that all volumes share, where there is a data root.
    pub room: Option<RoomState>,
    /// How the roots of all nodes are, where the driver is told of them.
    pub local_ca_roots: Option<RootsState>,
}

/// The room that all volumes of the node share, in bytes.
#[derive(Debug)]
pub struct RoomState {
    /// All of it.
    pub size: u64,
    /// What is used.
    pub used: u64,
    /// What is kept back for volumes that are published already.
    pub reserve: u64,
}

/// How the roots of all nodes are.
#[derive(Debug)]
pub struct RootsState {
    /// Of how many nodes the authorities are trusted.
    pub nodes: usize,
    /// Whether nodes may not trust each other.
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
    /// Whether what it tells is being followed.
    pub up: bool,
    /// How many volumes wait for their request.
    pub pending: usize,
    /// How many volumes wait for a token of the kubelet.
    pub waiting_for_token: usize,
}
