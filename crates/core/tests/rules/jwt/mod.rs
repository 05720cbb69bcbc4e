//! JWT-SVIDs, good and bad, and the bundles to verify them with.

mod any;
mod authority;
mod bundle;
pub(crate) mod forge;
mod svid;
mod validate;
