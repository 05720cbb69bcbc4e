//! The chart, installed by Helm as users do: each profile from nothing to a pod with an identity, and what becomes of pods
//! when a release is upgraded, rolled back and taken away.

mod dry_run;
mod example;
mod footprint;
mod host;
mod profiles;
mod release;
mod startup_taint;
mod uninstall;
mod upgrade;
mod versions;
