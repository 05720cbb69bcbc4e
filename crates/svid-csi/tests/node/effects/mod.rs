//! Every effect of the driver on the node: what happens if it is the last one before a kill, if it fails, or if something
//! else happens before it.
//!
//! `traces` has the effects of each operation in order. `cargo test` tries kills and full disks at some of them, and with
//! `CI=true` at all of them; `just faults` tries every fault at every effect of every operation.

mod faults;
mod hold;
mod judge;
mod operation;
mod oracle;
mod plan;
mod project;
mod restarts;
mod sweep;
mod world;

use self::hold::{Second, some_pairs};
use self::operation::Operation;
use self::plan::Plan;
pub(crate) use self::sweep::is_possible;
use self::sweep::{all_as_committed, some};
use crate::fixture::container_test;

/// A test for each plan.
macro_rules! traces {
    ($($name:ident: $plan:ident, [$($operation:ident),+ $(,)?],)+) => {
        $(
            #[test]
            fn $name() {
                container_test(async || all_as_committed(Plan::$plan, &[$(Operation::$operation),+]).await);
            }
        )+
    };
}

traces! {
    files_leave_the_committed_traces: Files,
        [FirstStart, Publish, Renewal, Republish, Start, StartPrivate, Adoption, Unpublish],
    formats_leave_the_committed_traces: Formats, [Publish, Renewal, Republish, Password, Start, Unpublish],
    sockets_leave_the_committed_traces: Sockets, [FirstStart, Publish, Renewal, Republish, Start, Unpublish],
    passthrough_leaves_the_committed_traces: Passthrough, [FirstStart, Publish, Republish, Start, Unpublish],
    files_of_an_agent_leave_the_committed_traces: BrokerFiles,
        [Publish, Renewal, Republish, Bundle, Tokens, Withdrawal, Return, Start, Unpublish],
    sockets_of_an_agent_leave_the_committed_traces: BrokerSockets,
        [Publish, Renewal, Republish, Bundle, Withdrawal, Return, Start, Unpublish],
    files_of_cert_manager_leave_the_committed_traces: CertManagerFiles,
        [Publish, Renewal, Republish, Bundle, Start, Adoption, Unpublish],
    sockets_of_cert_manager_leave_the_committed_traces: CertManagerSockets,
        [Publish, Renewal, Republish, Bundle, Start, Unpublish],
    files_beside_other_nodes_leave_the_committed_traces: Roots, [Bundle, Entry],
}

/// A test for each operation.
macro_rules! operations {
    ($how:ident $plan:ident: $($(#[$attribute:meta])* $name:ident: $operation:ident,)+) => {
        $(
            #[test]
            $(#[$attribute])*
            fn $name() {
                container_test(async || $how(Plan::$plan, Operation::$operation).await);
            }
        )+
    };
}
use operations;

mod files {
    use super::*;

    operations! { some Files:
        publish: Publish,
        renewal: Renewal,
        unpublish: Unpublish,
        start: Start,
        start_gone: StartGone,
        remount: Remount,
    }
}

mod sockets {
    use super::*;

    operations! { some Sockets:
        publish: Publish,
        renewal: Renewal,
        unpublish: Unpublish,
        start: Start,
    }
}

#[test]
fn two_calls_at_once_are_as_one_after_the_other() {
    container_test(async || some_pairs(Plan::Files, Operation::Publish, &[Second::Unpublish, Second::Terminate]).await);
}
