//! Every effect of the driver on the node: what happens if it is the last one before a kill, or if it fails.
//!
//! `traces` has the effects of each operation in order. `cargo test` tries kills and full disks at some of them, and with
//! `CI=true` at all of them; `just faults` tries every fault at every effect of every operation.

mod operation;
mod oracle;
mod sweep;
mod world;

use self::operation::Operation;
use self::sweep::{all_as_committed, every, looks, some};
use self::world::Plan;
use crate::fixture::test;

#[test]
fn files_leave_the_committed_traces() {
    use Operation::{FirstStart, Publish, Renewal, Republish, Start, Unpublish};
    test(async || {
        all_as_committed(Plan::Files, &[FirstStart, Publish, Renewal, Republish, Start, Unpublish]).await;
    });
}

#[test]
fn formats_leave_the_committed_traces() {
    use Operation::{Publish, Renewal, Republish, Start, Unpublish};
    test(async || all_as_committed(Plan::Formats, &[Publish, Renewal, Republish, Start, Unpublish]).await);
}

#[test]
fn sockets_leave_the_committed_traces() {
    use Operation::{Publish, Renewal, Republish, Start, Unpublish};
    test(async || all_as_committed(Plan::Sockets, &[Publish, Renewal, Republish, Start, Unpublish]).await);
}

#[test]
fn passthrough_leaves_the_committed_traces() {
    use Operation::{FirstStart, Publish, Republish, Start, Unpublish};
    test(async || all_as_committed(Plan::Passthrough, &[FirstStart, Publish, Republish, Start, Unpublish]).await);
}

/// A test for each operation.
macro_rules! operations {
    ($how:ident $plan:expr, $($(#[$attribute:meta])* $name:ident: $operation:ident,)+) => {
        $(
            #[test]
            $(#[$attribute])*
            fn $name() {
                test(async || $how($plan, Operation::$operation).await);
            }
        )+
    };
}

mod files {
    use super::*;

    operations! { some Plan::Files,
        publish: Publish,
        renewal: Renewal,
        unpublish: Unpublish,
        start: Start,
    }
}

mod sockets {
    use super::*;

    operations! { some Plan::Sockets,
        publish: Publish,
        renewal: Renewal,
        unpublish: Unpublish,
        start: Start,
    }
}

mod faults {
    /// `just faults`.
    macro_rules! faults {
        ($plan:ident: $($name:ident: $operation:ident,)+) => {
            use super::super::*;

            operations! { every Plan::$plan, $(#[ignore = "minutes: just faults"] $name: $operation,)+ }
        };
    }

    mod files {
        faults! { Files:
            publish: Publish,
            republish: Republish,
            renewal: Renewal,
            unpublish: Unpublish,
            start: Start,
            start_alone: StartAlone,
            first_start: FirstStart,
        }
    }

    mod failed_looks {
        use super::super::*;

        operations! { looks Plan::Files,
            #[ignore = "minutes: just faults"] start_of_files: Start,
            #[ignore = "minutes: just faults"] republish_of_files: Republish,
        }
        operations! { looks Plan::Sockets,
            #[ignore = "minutes: just faults"] start_of_sockets: Start,
            #[ignore = "minutes: just faults"] republish_of_sockets: Republish,
        }
        operations! { looks Plan::Passthrough,
            #[ignore = "minutes: just faults"] start_of_passthrough: Start,
            #[ignore = "minutes: just faults"] republish_of_passthrough: Republish,
        }
    }

    mod formats {
        faults! { Formats:
            publish: Publish,
            republish: Republish,
            renewal: Renewal,
            unpublish: Unpublish,
            start: Start,
            start_alone: StartAlone,
        }
    }

    mod sockets {
        faults! { Sockets:
            publish: Publish,
            republish: Republish,
            renewal: Renewal,
            unpublish: Unpublish,
            start: Start,
            start_alone: StartAlone,
        }
    }

    mod passthrough {
        faults! { Passthrough:
            publish: Publish,
            republish: Republish,
            unpublish: Unpublish,
            start: Start,
            start_alone: StartAlone,
            first_start: FirstStart,
        }
    }
}
