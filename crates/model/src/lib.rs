//! An exhaustive model of one volume: every order of calls by the kubelet, news from the source, kills, failed system
//! calls and timers within a budget. The driver's steps are those of the crate `svid-csi`, and the real
//! [`recover`](svid_csi_core::state::recover) decides on real records what startup does. ARCHITECTURE.md describes what
//! the model covers.
//!
//! [`search`] visits all states. [`Followed`] has what can be seen of the volume on the node while one step is taken: the
//! tests of the driver compare that with a real node.

mod code;
mod follow;
mod kubelet;
mod mount;
mod properties;
mod publish;
mod record;
mod run;
mod search;
mod seen;
mod start;
mod world;

pub use self::code::Mutation;
pub use self::follow::Followed;
pub use self::kubelet::Step;
pub use self::properties::Property;
pub use self::search::{Found, search};
pub use self::seen::{Names, Seen, SeenRecord, SeenRoot};
pub use self::world::{Belief, Budget, Spec};
