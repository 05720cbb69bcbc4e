//! Wire messages of the APIs that svid-csi serves and calls.
//!
//! The modules are generated from the `.proto` files in this crate, which contain only the parts in use. They are
//! committed, so that building needs neither protoc nor a build script. Messages with keys or tokens have a `Debug`
//! that leaves these out.

mod codec;
mod redacted;
mod reference;
pub mod sds;

pub use codec::is_dense;
pub use reference::KUBERNETES_OBJECT_REFERENCE;

/// CSI 1.x: the Identity and Node services.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines)]
pub mod csi_v1 {
    include!("gen/csi.v1.rs");
}

/// The kubelet's plugin registration, version 1.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines)]
pub mod pluginregistration_v1 {
    include!("gen/pluginregistration.rs");
}

/// gRPC's health checking protocol (grpc.health.v1).
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines)]
pub mod health {
    include!("gen/grpc.health.v1.rs");
}

/// The SPIFFE Workload API.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines)]
pub mod workload {
    include!("gen/workload.rs");
}

/// The SPIFFE Broker API, whose responses are messages of the Workload API.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines)]
pub mod broker {
    include!("gen/spiffe.broker.rs");
}
