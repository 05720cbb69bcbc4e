//! The approver's rules: one good request, and for each rule one that breaks just that one.

mod any;
mod csr;
mod driver;
mod encoding;
pub(crate) mod forge;
mod identity;
mod key;
mod openssl;
mod pem;
mod pods;
mod spec;
mod unannotated;
mod verdict;
