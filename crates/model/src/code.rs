//! The mistakes that the search must find.

/// A mistake put into the model to show that the search finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// A record changes in memory first and keeps the change if the write fails.
    RecordAfterMemory,
    /// A publish that fails after it changed something returns a final code, and the driver does not check the volume again.
    FinalAfterEffects,
    /// A publish of a published volume that fails returns a final code, although the kubelet may have timed out before.
    FinalThoughPublished,
    /// A call treats a volume whose record startup could not read as a new one.
    UnreadIsUnknown,
    /// Startup removes the data of a volume whose record it could not read.
    UnreadIsOrphan,
    /// The driver does not retry what fails during startup.
    StartOnlyOnce,
    /// The ten-minute timer also removes ready volumes.
    TimerDropsReady,
    /// Every mount at the target counts as the driver's own.
    ForeignTakenForOurs,
    /// The driver mounts without unmounting the previous mount.
    MountsOnTop,
    /// The audit log is written after the pod can read the identity.
    AuditAfterwards,
    /// A withdrawal leaves the files.
    WithdrawalKeepsFiles,
    /// Startup does not complete a withdrawal.
    WithdrawalForgotten,
    /// Startup considers a folder without `..data` empty.
    HiddenTakenForGone,
    /// The driver delivers an identity that the record does not mention.
    NotAnnounced,
    /// The driver considers a volume published although a publish with another spec has begun.
    UnsettledIsPublished,
    /// The driver writes into whatever is mounted, even if the record says that it is the agent's.
    MountTakenForFolder,
    /// The driver unmounts before the next mount is cloned and recorded.
    DetachFirst,
    /// The driver does not restore the former mount if the next one fails.
    FormerMountLost,
    /// The driver mounts the folder below the clone instead of the clone.
    CloneBypassed,
    /// Startup takes a data root that it cannot look at for one without a tmpfs, and mounts another one over it.
    UnseenDataReplaced,
    /// A delivery that fails leaves the names that it has linked.
    NamesLeft,
}
