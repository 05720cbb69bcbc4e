//! How the caller should treat a failure.

/// The classes of the driver's errors; each maps to one gRPC code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The request itself is wrong; retrying without a change is useless.
    Invalid,
    /// The request conflicts with a published volume that has the same id or path.
    Conflict,
    /// The named object does not exist.
    Missing,
    /// The source or the approver denied it; retrying is useless until that decision changes.
    Denied,
    /// The state of the node forbids it, and must be fixed.
    Blocked,
    /// A dependency does not exist yet or is not reachable; the kubelet retries.
    NotYet,
    /// A limited resource (the volume data) is full; the kubelet retries.
    Exhausted,
    /// The driver or the node is at fault.
    Internal,
}
