//! The driver names served by one process: the main one, and those of `--also-profile`.

use std::collections::BTreeSet;

use svid_csi_core::files::{FileNames, Layout};
use svid_csi_core::plan::{Issuer, Plan, Source, one_of};

use super::flags::{Data, DriverArgs};
use super::mistakes::FlagMistakes;
use super::profile::AlsoProfile;
use super::profile::Profile;
use crate::node::kubelet::config::DriverName;

/// The driver names in these flags. A missing part stays empty, and is reported as a mistake.
pub(super) fn drivers(args: &DriverArgs, mistakes: &mut FlagMistakes) -> Vec<DriverName> {
    let file_names = file_names(&args.data, mistakes);
    let main = main_driver(args, file_names.clone(), mistakes);
    let also = args.serve.also_profile.iter().map(|also| also_driver(args, also, file_names.clone(), mistakes));
    let drivers: Vec<DriverName> = std::iter::once(main).chain(also.collect::<Vec<_>>()).flatten().collect();
    let mut names = BTreeSet::new();
    for driver in drivers.iter().filter(|driver| !names.insert(&driver.name)) {
        mistakes.add("also-profile", format_args!("{} is already served; name each driver once", driver.name));
    }
    drivers
}

/// Whether the flags select this profile, under the main driver name or another one.
pub(super) fn serves(args: &DriverArgs, profile: Profile) -> bool {
    args.serve.profile == Some(profile) || args.serve.also_profile.iter().any(|also| also.profile == profile)
}

fn main_driver(args: &DriverArgs, file_names: FileNames, mistakes: &mut FlagMistakes) -> Option<DriverName> {
    let profile = args.serve.profile;
    let name = args.serve.driver_name.clone().or_else(|| Some(profile?.name().to_owned()));
    let name = required(name, "driver-name", "give the name of the CSIDriver object, or a --profile", mistakes);
    let socket = args.serve.endpoint.clone().or_else(|| profile?.csi_socket());
    let socket =
        required(socket, "endpoint", "give the socket the kubelet calls, such as unix:///csi/csi.sock", mistakes);
    let registration_path = args.kubelet.kubelet_registration_path.clone();
    if registration_path.is_none() && args.kubelet.kubelet_registration_dir.is_some() {
        mistakes.missing("kubelet-registration-path", "--kubelet-registration-dir announces this path to the kubelet");
    }
    let default_plan = main_plan(args, mistakes)?;
    Some(DriverName {
        name,
        socket,
        registration_path,
        default_plan,
        allowed_plans: allowed(args, default_plan),
        layout: args.data.layout.unwrap_or_default(),
        file_names,
    })
}

fn required<T: Default>(value: Option<T>, flag: &str, fix: &str, mistakes: &mut FlagMistakes) -> T {
    if value.is_none() {
        mistakes.missing(flag, fix);
    }
    value.unwrap_or_default()
}

fn main_plan(args: &DriverArgs, mistakes: &mut FlagMistakes) -> Option<Plan> {
    let profile = args.serve.profile;
    let Some(source) = args.serve.source.or_else(|| Some(profile?.source())) else {
        mistakes.missing("source", format_args!("give {}, or a --profile", one_of(Source::ALL)));
        return None;
    };
    let delivery = args.serve.delivery.unwrap_or_else(|| source.usual_delivery());
    mistakes.check("delivery", Plan::new(source, delivery))
}

fn also_driver(
    args: &DriverArgs,
    also: &AlsoProfile,
    file_names: FileNames,
    mistakes: &mut FlagMistakes,
) -> Option<DriverName> {
    let name = also.profile.name();
    if also.registration_path.is_none() && args.kubelet.kubelet_registration_dir.is_some() {
        let fix = "has no path for --kubelet-registration-dir to announce; add ,registration-path=PATH";
        mistakes.add("also-profile", format_args!("{name} {fix}"));
    }
    let default_plan = also_plan(args, also.profile);
    Some(DriverName {
        name: name.to_owned(),
        socket: also.csi_socket.clone(),
        registration_path: also.registration_path.clone(),
        default_plan,
        allowed_plans: allowed(args, default_plan),
        layout: args.data.layout.unwrap_or_default(),
        file_names,
    })
}

fn also_plan(args: &DriverArgs, profile: Profile) -> Plan {
    match (profile, args.serve.source) {
        (Profile::Spiffe, _) => Plan::Passthrough,
        (Profile::CertManager, Some(Source::LocalCa)) => Plan::Files(Issuer::LocalCa),
        (Profile::CertManager, _) => Plan::Files(Issuer::CertManager),
    }
}

fn allowed(args: &DriverArgs, default_plan: Plan) -> BTreeSet<Plan> {
    args.serve.allow_plan.iter().copied().chain([default_plan]).collect()
}

fn file_names(args: &Data, mistakes: &mut FlagMistakes) -> FileNames {
    let usual = Layout::Pem.names();
    let names = FileNames {
        cert: args.file_name_certificate.clone().or(usual.cert),
        key: args.file_name_key.clone().or(usual.key),
        bundle: args.file_name_ca.clone().or(usual.bundle),
    };
    let flags = ["file-name-ca", "file-name-key", "file-name-certificate"];
    if let Some(layout) = args.layout.filter(|layout| *layout != Layout::Pem) {
        let usual = Layout::Pem.names();
        // The chart and the manifests of csi-driver-spiffe always give these flags.
        let changed = [names.bundle != usual.bundle, names.key != usual.key, names.cert != usual.cert];
        for (flag, _) in flags.into_iter().zip(changed).filter(|(_, is_changed)| *is_changed) {
            mistakes.add(flag, format_args!("is for the files of layout pem; leave it out with --layout {layout}"));
        }
    }
    if let Err(same) = names.check_distinct() {
        let flag = flags.into_iter().find(|flag| mistakes.given(flag)).unwrap_or(flags[0]);
        mistakes.add(flag, format_args!("{same}; give each file its own name"));
    }
    names
}
