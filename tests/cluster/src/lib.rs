//! A real Kubernetes node for the tests of svid-csi: etcd, the control plane, containerd and a kubelet, with programs
//! from Go modules and Debian packages, in a folder of this checkout.
//!
//! [`tools`] builds the programs, [`images`] the container images, [`cluster`] starts and stops [`control_plane`] and
//! [`node`], and tests find them through [`session`]. [`cert_manager`] is optional.

#[cfg(feature = "e2e")]
pub mod accounts;
pub mod cert_manager;
pub mod cgroup;
pub mod cluster;
pub mod control_plane;
#[cfg(feature = "e2e")]
pub mod eventually;
pub mod files;
#[cfg(feature = "e2e")]
pub mod helm;
pub mod images;
pub mod issuers;
pub mod kubeconfig;
pub mod kubectl;
pub mod layout;
pub mod leftovers;
pub mod mounts;
pub mod node;
#[cfg(feature = "e2e")]
pub mod objects;
pub mod peers;
pub mod pki;
#[cfg(feature = "e2e")]
pub mod predecessor;
pub mod process;
#[cfg(feature = "e2e")]
pub mod program;
#[cfg(feature = "e2e")]
pub mod requests;
pub mod service_route;
pub mod session;
#[cfg(feature = "e2e")]
pub mod spiffe;
#[cfg(feature = "e2e")]
pub mod spire;
pub mod tools;
pub mod wait;
