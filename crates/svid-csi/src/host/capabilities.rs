//! The capabilities of this process (capabilities(7)), of which the unneeded ones are dropped.
//!
//! Container runtimes leave a privileged container every capability, even those that its manifest drops.

use rustix::io::{self, Errno};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs,
};

/// The capabilities that the driver needs.
const OF_DRIVER: [(CapabilitySet, &str, &str); 5] = [
    (CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN", "to mount"),
    (CapabilitySet::DAC_OVERRIDE, "CAP_DAC_OVERRIDE", "to write into folders without write permission"),
    (CapabilitySet::FOWNER, "CAP_FOWNER", "to link sockets that belong to an agent's user"),
    (CapabilitySet::CHOWN, "CAP_CHOWN", "to give files to a pod's fs-group"),
    (CapabilitySet::LINUX_IMMUTABLE, "CAP_LINUX_IMMUTABLE", "to seal volumes, so that their pods cannot change them"),
];

/// They could not be dropped.
#[derive(Debug, thiserror::Error)]
#[error("cannot drop the capabilities that are not needed")]
pub(crate) struct CapabilityError(#[from] Errno);

/// Permanently drops all capabilities except those that the driver needs, and returns the missing ones, each with its
/// purpose. Each thread has its own capabilities, so this must be called before there is a second thread.
///
/// # Errors
/// [`CapabilityError`].
pub(crate) fn keep_those_of_driver() -> Result<Vec<String>, CapabilityError> {
    let needed = OF_DRIVER.iter().fold(CapabilitySet::empty(), |all, (one, ..)| all | *one);
    let kept = keep_only(needed)?;
    let missing = OF_DRIVER.iter().filter(|(one, ..)| !kept.contains(*one));
    Ok(missing.map(|(_, name, purpose)| format!("{name} is missing; it is needed {purpose}")).collect())
}

fn keep_only(needed: CapabilitySet) -> io::Result<CapabilitySet> {
    let had = capabilities(None)?;
    set_no_new_privs(true)?;
    if had.effective.contains(CapabilitySet::SETPCAP) {
        bound_to(needed)?;
    }
    let kept = had.permitted & needed;
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() })?;
    Ok(kept)
}

/// Programs executed later do not get more than that either.
fn bound_to(needed: CapabilitySet) -> io::Result<()> {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match capability_is_in_bounding_set(capability) {
            Ok(true) if !needed.contains(capability) => remove_capability_from_bounding_set(capability)?,
            Ok(_) => {}
            // The kernel does not know any more of them.
            Err(Errno::INVAL) => return Ok(()),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
