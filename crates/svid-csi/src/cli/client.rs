//! The usual flags of a Kubernetes client, as accepted by both programs of cert-manager/csi-driver-spiffe.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, Command};

use super::mistakes::FlagMistakes;
use super::values;
use crate::kube::client::ClientOptions;

/// How to find the API server.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "API server")]
pub(super) struct ClientFlags {
    /// A kubeconfig. Default: the service account of the pod this process runs in.
    #[arg(long, value_name = "FILE", value_parser = values::path)]
    kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig. Default: its current one.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The cluster in the kubeconfig. Default: the context's.
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// The user in the kubeconfig. Default: the context's.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    #[command(flatten)]
    idle: IdleClientFlags,
}

/// Further flags with a value, which have no effect in a cluster.
const VALUES: [(&str, Option<char>); 13] = [
    ("cache-dir", None),
    ("client-certificate", None),
    ("client-key", None),
    ("token", None),
    ("as", None),
    ("as-uid", None),
    ("as-group", None),
    ("as-user-extra", None),
    ("namespace", Some('n')),
    ("server", Some('s')),
    ("tls-server-name", None),
    ("certificate-authority", None),
    ("request-timeout", None),
];

/// Further boolean flags.
const SWITCHES: [&str; 2] = ["insecure-skip-tls-verify", "disable-compression"];

/// Registers the further flags. Their values are dropped, because one of them is a token.
#[derive(Debug, Default)]
struct IdleClientFlags;

impl ClientFlags {
    /// The names of all these flags.
    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        Self::obeyed().chain(Self::idle())
    }

    /// The names of those with an effect.
    pub(super) fn obeyed() -> impl Iterator<Item = &'static str> {
        ["kubeconfig", "context", "cluster", "user"].into_iter()
    }

    /// The names of those without an effect.
    pub(super) fn idle() -> impl Iterator<Item = &'static str> {
        VALUES.into_iter().map(|(name, _)| name).chain(SWITCHES)
    }

    /// Combines the flags.
    pub(super) fn options(&self, mistakes: &mut FlagMistakes) -> ClientOptions {
        let Self { kubeconfig, context, cluster, user, .. } = self;
        if kubeconfig.is_none() {
            for flag in
                ["context", "cluster", "user"].into_iter().filter(|flag| mistakes.given(flag)).collect::<Vec<_>>()
            {
                mistakes.add(flag, "selects from a kubeconfig; give --kubeconfig too, or leave this flag out");
            }
        }
        ClientOptions {
            kubeconfig: kubeconfig.clone(),
            context: context.clone(),
            cluster: cluster.clone(),
            user: user.clone(),
        }
    }
}

impl Args for IdleClientFlags {
    fn augment_args(command: Command) -> Command {
        let flag = |name: &'static str, action| Arg::new(name).long(name).action(action).hide(true);
        command
            .args(VALUES.map(|(name, short)| flag(name, ArgAction::Set).short(short)))
            .args(SWITCHES.map(|name| flag(name, ArgAction::SetTrue)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for IdleClientFlags {
    fn from_arg_matches(_: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self)
    }

    fn update_from_arg_matches(&mut self, _: &ArgMatches) -> Result<(), clap::Error> {
        Ok(())
    }
}
