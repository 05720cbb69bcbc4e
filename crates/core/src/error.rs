//! How the caller should treat a failure.

/// The classes every error of the driver falls into; each maps to one gRPC code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The request itself is wrong; asking again without a change is useless.
    Invalid,
    /// The request contradicts what is already published under the same volume id or path.
    Conflict,
    /// What it names does not exist.
    Missing,
    /// The source or the approver denied it; asking again is useless until that decision changes.
    Denied,
    /// The state of the node forbids it, and has to be fixed.
    Blocked,
    /// Something it needs is not there yet, or not reachable; the kubelet asks again.
    NotYet,
    /// A bounded resource (the volume data) is full; the kubelet asks again.
    Exhausted,
    /// The driver or the node is at fault.
    Internal,
}
