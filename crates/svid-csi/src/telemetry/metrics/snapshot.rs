//! Values that are read for each scrape.

/// The state of the volumes at the time of the scrape.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The number of volumes of each plan and phase.
    pub volumes: Vec<(String, &'static str, i64)>,
    /// Seconds until the first certificate in use expires; negative if one has expired.
    pub soonest_expiry: Option<f64>,
    /// The number of volumes with a certificate whose chain does not lead to their trust bundle.
    pub untrusted: i64,
    /// The state of the source cert-manager, if the driver has it.
    pub cert_manager: Option<SourceState>,
    /// The state of the source broker, if the driver has it.
    pub broker: Option<BrokerState>,
    /// The space that all volumes share, if there is a data root.
    pub room: Option<RoomState>,
    /// The state of the roots of all nodes, if the driver reads them.
    pub local_ca_roots: Option<RootsState>,
}

/// The space that all volumes of the node share, in bytes.
#[derive(Debug)]
pub struct RoomState {
    /// The total.
    pub size: u64,
    /// The used part.
    pub used: u64,
    /// The part reserved for volumes that are already published.
    pub reserve: u64,
}

/// The state of the roots of all nodes.
#[derive(Debug)]
pub struct RootsState {
    /// The number of nodes whose authorities are trusted.
    pub nodes: usize,
    /// Whether some nodes may not trust each other.
    pub in_trouble: bool,
}

/// The state of the source broker.
#[derive(Debug)]
pub struct BrokerState {
    /// Whether the driver is connected.
    pub up: bool,
    /// The number of followed pods.
    pub subscriptions: usize,
}

/// The state of a source.
#[derive(Debug)]
pub struct SourceState {
    /// Whether the driver receives updates.
    pub up: bool,
    /// The number of volumes that wait for their request.
    pub pending: usize,
    /// The number of volumes that wait for a token from the kubelet.
    pub waiting_for_token: usize,
}
