//! Every fault at every effect of every operation, and everything else that may happen at that moment: `just faults`.

use super::hold::{Second, pairs};
use super::operation::Operation;
use super::operations;
use super::plan::Plan;
use super::sweep::{every, looks};
use crate::fixture::container_test;

/// A module for each plan.
macro_rules! faults {
    ($how:ident: $($module:ident: $plan:ident { $($name:ident: $operation:ident,)+ })+) => {
        $(
            mod $module {
                use super::*;

                operations! { $how $plan: $(#[ignore = "minutes: just faults"] $name: $operation,)+ }
            }
        )+
    };
}

faults! { every:
    files: Files {
        publish: Publish,
        republish: Republish,
        revert: Revert,
        remount: Remount,
        renewal: Renewal,
        unpublish: Unpublish,
        adoption: Adoption,
        start: Start,
        start_alone: StartAlone,
        start_gone: StartGone,
        start_cloned: StartCloned,
        first_start: FirstStart,
        start_shared: StartShared,
        start_private: StartPrivate,
    }
    formats: Formats {
        publish: Publish,
        republish: Republish,
        renewal: Renewal,
        password: Password,
        unpublish: Unpublish,
        start: Start,
        start_alone: StartAlone,
        start_cloned: StartCloned,
    }
    sockets: Sockets {
        publish: Publish,
        republish: Republish,
        revert: Revert,
        remount: Remount,
        renewal: Renewal,
        unpublish: Unpublish,
        start: Start,
        start_alone: StartAlone,
        start_gone: StartGone,
        start_cloned: StartCloned,
        first_start: FirstStart,
        start_shared: StartShared,
        start_private: StartPrivate,
    }
    passthrough: Passthrough {
        publish: Publish,
        republish: Republish,
        revert: Revert,
        unpublish: Unpublish,
        start: Start,
        start_alone: StartAlone,
        start_gone: StartGone,
        start_cloned: StartCloned,
        first_start: FirstStart,
        start_shared: StartShared,
        start_private: StartPrivate,
    }
    roots: Roots {
        bundle: Bundle,
        entry: Entry,
        start_alone: StartAlone,
        first_start: FirstStart,
    }
    broker_files: BrokerFiles {
        publish: Publish,
        republish: Republish,
        renewal: Renewal,
        tokens: Tokens,
        withdrawal: Withdrawal,
        given_again: Return,
        unpublish: Unpublish,
        start: Start,
        start_alone: StartAlone,
        start_cloned: StartCloned,
        bundle: Bundle,
    }
    broker_sockets: BrokerSockets {
        publish: Publish,
        republish: Republish,
        renewal: Renewal,
        withdrawal: Withdrawal,
        given_again: Return,
        unpublish: Unpublish,
        start: Start,
        start_alone: StartAlone,
        start_cloned: StartCloned,
        bundle: Bundle,
    }
    cert_manager_files: CertManagerFiles {
        publish: Publish,
        republish: Republish,
        renewal: Renewal,
        bundle: Bundle,
        unpublish: Unpublish,
        start: Start,
        adoption: Adoption,
        start_alone: StartAlone,
        start_cloned: StartCloned,
        first_start: FirstStart,
    }
    cert_manager_sockets: CertManagerSockets {
        publish: Publish,
        republish: Republish,
        renewal: Renewal,
        bundle: Bundle,
        unpublish: Unpublish,
        start: Start,
        start_alone: StartAlone,
        start_cloned: StartCloned,
    }
}

/// Checks that fail, where a wrong "not there" does harm: at startups, most of all if the kubelet does not ask again, and at
/// republishes.
mod failed_looks {
    use super::*;

    faults! { looks:
        files: Files {
            republish: Republish,
            start: Start,
            start_alone: StartAlone,
            start_cloned: StartCloned,
            first_start: FirstStart,
        }
        formats: Formats {
            republish: Republish,
            start: Start,
            start_alone: StartAlone,
        }
        sockets: Sockets {
            republish: Republish,
            start: Start,
            start_alone: StartAlone,
            start_cloned: StartCloned,
        }
        passthrough: Passthrough {
            republish: Republish,
            start: Start,
            start_alone: StartAlone,
            first_start: FirstStart,
        }
        broker_files: BrokerFiles {
            republish: Republish,
            start: Start,
            start_alone: StartAlone,
        }
        broker_sockets: BrokerSockets {
            republish: Republish,
            start: Start,
            start_alone: StartAlone,
        }
        cert_manager_files: CertManagerFiles {
            republish: Republish,
            start: Start,
            start_alone: StartAlone,
        }
        cert_manager_sockets: CertManagerSockets {
            republish: Republish,
            start: Start,
            start_alone: StartAlone,
        }
    }
}

/// Something else happens while an effect is held.
mod at_once {
    use super::*;
    use Second::{Bundle, CallerGone, Renewal, Republish, Terminate, Unpublish, Withdrawal};

    /// A test for each first.
    macro_rules! pairs {
        ($($name:ident: $plan:ident $operation:ident $seconds:expr,)+) => {
            $(
                #[test]
                #[ignore = "minutes: just faults"]
                fn $name() {
                    container_test(async || pairs(Plan::$plan, Operation::$operation, &$seconds, 1).await);
                }
            )+
        };
    }

    pairs! {
        publish_of_files: Files Publish [Unpublish, Republish, Terminate, CallerGone],
        republish_of_files: Files Republish [Unpublish, Renewal, Terminate, CallerGone],
        renewal_of_files: Files Renewal [Unpublish, Republish, Terminate],
        unpublish_of_files: Files Unpublish [Unpublish, Republish, Renewal, Terminate, CallerGone],
        publish_of_sockets: Sockets Publish [Unpublish, Republish, Terminate, CallerGone],
        renewal_of_sockets: Sockets Renewal [Unpublish, Republish, Terminate],
        republish_of_sockets: Sockets Republish [Unpublish, Renewal, Terminate, CallerGone],
        unpublish_of_sockets: Sockets Unpublish [Unpublish, Republish, Renewal, Terminate, CallerGone],
        publish_of_passthrough: Passthrough Publish [Unpublish, Republish, Terminate, CallerGone],
        republish_of_passthrough: Passthrough Republish [Unpublish, Terminate, CallerGone],
        unpublish_of_passthrough: Passthrough Unpublish [Unpublish, Republish, Terminate, CallerGone],
        publish_of_cert_manager: CertManagerFiles Publish [Unpublish, Bundle, Terminate, CallerGone],
        renewal_of_cert_manager: CertManagerFiles Renewal [Unpublish, Bundle, Terminate],
        bundle_of_cert_manager: CertManagerFiles Bundle [Unpublish, Renewal, Terminate],
        publish_of_files_of_an_agent: BrokerFiles Publish [Withdrawal],
        renewal_of_files_of_an_agent: BrokerFiles Renewal [Withdrawal],
        publish_of_sockets_of_an_agent: BrokerSockets Publish [Withdrawal],
        renewal_of_sockets_of_an_agent: BrokerSockets Renewal [Withdrawal],
        withdrawal_of_an_agent: BrokerFiles Withdrawal [Unpublish, Terminate],
        start_of_files: Files Start [Terminate],
        start_of_files_of_an_agent: BrokerFiles Start [Renewal, Withdrawal],
        start_of_files_of_cert_manager: CertManagerFiles Start [Bundle],
    }
}
