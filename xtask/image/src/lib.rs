//! The container image of svid-csi without a container engine: one layer, four entry points, as archives that any
//! engine reads. The cluster tests load these archives, as do users who install a release.
//!
//! [`compile`] builds the programs, [`product`] defines the content of the image, [`docker`] and [`oci`] write it.
//! [`linked`] lists the crates linked into the driver, for [`sbom`] and [`notice`].

pub mod arch;
mod archive;
pub mod compile;
pub mod docker;
pub mod image;
pub mod layer;
pub mod linked;
pub mod notice;
pub mod oci;
pub mod product;
pub mod sbom;

pub use archive::{sha256, write};
