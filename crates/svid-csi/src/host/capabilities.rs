//! What this process may do beyond other users (capabilities(7)), dropped if it is not needed.
//!
//! Container runtimes leave a privileged container every capability, whatever its manifest drops.

use rustix::io::{self, Errno};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs,
};

/// What the driver needs.
const OF_DRIVER: [(CapabilitySet, &str, &str); 5] = [
    (CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN", "to mount"),
    (CapabilitySet::DAC_OVERRIDE, "CAP_DAC_OVERRIDE", "to write into folders without write permission"),
    (CapabilitySet::FOWNER, "CAP_FOWNER", "to link sockets that belong to an agent's user"),
    (CapabilitySet::CHOWN, "CAP_CHOWN", "to give files to a pod's fs-group"),
    (CapabilitySet::LINUX_IMMUTABLE, "CAP_LINUX_IMMUTABLE", "to seal volumes, so that their pods cannot change them"),
];

/// They could not be given up.
#[derive(Debug, thiserror::Error)]
#[error("cannot drop the capabilities that are not needed")]
pub(crate) struct CapabilityError(#[from] Errno);

/// Drops for good all capabilities but those the driver needs, and returns which of those are missing, each with what it
/// is for. Capabilities are a thread's: to be called before there is a second one.
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

/// Whatever is executed later has no more than that either.
fn bound_to(needed: CapabilitySet) -> io::Result<()> {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match capability_is_in_bounding_set(capability) {
            Ok(true) if !needed.contains(capability) => remove_capability_from_bounding_set(capability)?,
            Ok(_) => {}
            // The kernel knows no more of them.
            Err(Errno::INVAL) => return Ok(()),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
