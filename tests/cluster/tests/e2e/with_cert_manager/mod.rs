//! Tests with the real cert-manager. They run one after another, because the cluster has one cert-manager, and an
//! approver judges the requests of all namespaces.

mod by_hand;
mod denials;
mod example;
mod issuer_switch;
mod killed;
mod leaders;
mod node_bound;
mod other_approvers;
mod outages;
mod permissions;
mod plans;
mod predecessor_suites;
mod rotation;
mod sanity;
pub mod stage;
