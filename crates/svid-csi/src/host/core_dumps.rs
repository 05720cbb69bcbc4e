//! Keeps keys in the memory of this process, which no core dump contains and no other process can read.

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// Core dumps cannot be disabled.
#[derive(Debug, thiserror::Error)]
#[error("cannot disable core dumps, which would contain keys")]
pub(crate) struct CoreDumpError(#[from] Errno);

/// Disables core dumps of this process, including those piped to a program, so that only users who may trace any
/// process can inspect it (PR_SET_DUMPABLE, prctl(2)). Must be called before there is a key. Programs that it starts
/// may dump again, because the hard limit is unchanged.
///
/// # Errors
/// [`CoreDumpError`].
pub(crate) fn forbid() -> Result<(), CoreDumpError> {
    let maximum = getrlimit(Resource::Core).maximum;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum })?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}
