//! The pure rules of svid-csi: what a volume is, what an identity must be, when it is renewed, what a restart does.
//!
//! Nothing here touches a file, a socket, a clock or a task: time and what was observed are arguments.

mod attributes;
pub mod error;
pub mod plan;
pub mod pod;
pub mod state;
pub mod target;
pub mod volume;
pub mod volume_id;
