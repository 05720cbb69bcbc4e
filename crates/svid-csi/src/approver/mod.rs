//! The approver: it says which certificate requests may be signed. The rules are core's `approve`; here is what feeds them.

pub mod dry_run;
mod input;

pub use self::input::InputError;
