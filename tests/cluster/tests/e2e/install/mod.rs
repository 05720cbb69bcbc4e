//! The chart, installed with Helm as users do: each profile from nothing to a pod with an identity, and running pods
//! when a release is upgraded, rolled back and uninstalled.

mod dry_run;
mod example;
mod footprint;
mod host;
mod injection;
mod plugin;
pub mod profiles;
pub mod release;
mod startup_taint;
mod static_pod;
mod uninstall;
mod upgrade;
mod versions;
