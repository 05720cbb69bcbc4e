//! The registers of a stopped thread, for each architecture.

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
pub(super) use aarch64::{Call, call, fail, result, skip, stack};
#[cfg(target_arch = "x86_64")]
pub(super) use x86_64::{Call, call, fail, result, skip, stack};
