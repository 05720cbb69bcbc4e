//! Flags of cert-manager/csi-driver-spiffe that only its source could obey. Its manifests set them, so they are accepted.

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::client::ClientFlags;

const HEADING: &str = "cert-manager (accepted with its profile; no effect in this version)";

/// Flags that take a value.
const VALUES: [(&str, &str); 7] = [
    ("issuer-name", "The name of the issuer"),
    ("issuer-kind", "The kind of the issuer"),
    ("issuer-group", "The API group of the issuer"),
    ("runtime-issuance-config-map-name", "The ConfigMap that overrides the issuer at run time"),
    ("runtime-issuance-config-map-namespace", "The namespace of that ConfigMap"),
    ("extra-certificate-request-annotations", "Annotations to add to requests, as a=b,c=d"),
    ("source-ca-bundle", "A PEM file to hand out as the trust bundle"),
];

const OWN_ACCOUNT: &str = "use-own-service-account";

/// Makes the flags known. Their values are dropped: one of them is a token.
#[derive(Debug, Default)]
pub(super) struct CertManagerFlags;

impl CertManagerFlags {
    /// The names of all these flags.
    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        let values = VALUES.into_iter().map(|(name, _)| name);
        values.chain([OWN_ACCOUNT]).chain(ClientFlags::names())
    }
}

impl clap::Args for CertManagerFlags {
    fn augment_args(command: Command) -> Command {
        let flag = |name: &'static str, action| Arg::new(name).long(name).action(action).help_heading(HEADING);
        let value = |name| flag(name, ArgAction::Set).value_name("VALUE");
        let own_account = "Request with the driver's own service account";
        let command = command
            .args(VALUES.map(|(name, help)| value(name).help(help)))
            .arg(flag(OWN_ACCOUNT, ArgAction::SetTrue).help(own_account));
        ClientFlags::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for CertManagerFlags {
    fn from_arg_matches(_: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self)
    }

    fn update_from_arg_matches(&mut self, _: &ArgMatches) -> Result<(), clap::Error> {
        Ok(())
    }
}
