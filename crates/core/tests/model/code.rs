//! How the modelled code differs from code that keeps every property.

/// The driver's steps, with these mistakes in them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Code {
    pub mutation: Option<Mutation>,
    pub flaws: &'static [Flaw],
}

/// A bug of the driver that the model has found. The fix of one removes it here too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// If a volume without an identity receives one that cannot be recorded, the renewal does not know of it: a withdrawal
    /// before the next delivery does not remove the files. Examples are a republish of a passthrough volume as files, and an
    /// identity that is issued again after a withdrawal.
    GivenButNotRecorded,
    /// If a republish with other file names cannot be recorded as ready, and the kubelet then requests the previous names
    /// again, the publish succeeds because the record still has them. The files are missing until the next renewal.
    FilesOfAnEarlierTry,
    /// If a republish of a passthrough volume as files fails, and the kubelet then requests passthrough again, the publish
    /// succeeds and a key remains in the driver's folder until the unpublish. The pod cannot read it.
    KeysOfAnEarlierTry,
}

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
    /// Startup does not complete a withdrawal.
    WithdrawalForgotten,
    /// Startup considers a folder without `..data` empty.
    HiddenTakenForGone,
    /// The driver writes into whatever is mounted, even if the record says that it is the agent's.
    MountTakenForFolder,
    /// The driver unmounts before the next mount is cloned and recorded.
    DetachFirst,
    /// The driver does not restore the former mount if the next one fails.
    FormerMountLost,
}
