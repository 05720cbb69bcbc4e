//! How a failure is to be treated by whoever asked.

/// The classes every error of the driver falls into; each maps to one gRPC code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The request itself is wrong; asking again without a change is useless.
    Invalid,
    /// The request contradicts what is already published under the same volume id or path.
    Conflict,
    /// What it names does not exist.
    Missing,
    /// Whoever decides about it said no; asking again is useless until they change their mind.
    Denied,
    /// The node is in a state that forbids it and that somebody has to mend.
    Blocked,
    /// Something it needs is not there yet, or not reachable; the kubelet asks again.
    NotYet,
    /// A bounded resource (the volume data) is full; the kubelet asks again.
    Exhausted,
    /// The driver or the node is at fault.
    Internal,
}
