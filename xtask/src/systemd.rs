//! Only tests: the driver understands the shipped unit and environment file.

use std::ffi::OsString;
use std::fs;

fn shipped(name: &str) -> String {
    fs::read_to_string(crate::repository().unwrap().join("deploy/systemd").join(name)).unwrap()
}

/// The settings of a file, without comments and sections.
fn settings(text: &str) -> Vec<(&str, &str)> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('=')).collect()
}

/// Each of these gives the service its own mount namespace (exec_needs_mount_namespace in systemd), whose mounts the
/// kubelet cannot see.
const UNSHARE_MOUNTS: [&str; 31] = [
    "BindPaths",
    "BindReadOnlyPaths",
    "DynamicUser",
    "ExecPaths",
    "ExtensionDirectories",
    "ExtensionImages",
    "InaccessiblePaths",
    "LoadCredential",
    "LogNamespace",
    "MountAPIVFS",
    "MountFlags",
    "MountImages",
    "NetworkNamespacePath",
    "NoExecPaths",
    "PrivateDevices",
    "PrivateIPC",
    "PrivateMounts",
    "PrivateNetwork",
    "PrivateTmp",
    "PrivateUsers",
    "ProcSubset",
    "ProtectControlGroups",
    "ProtectHome",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "ProtectProc",
    "ProtectSystem",
    "ReadOnlyPaths",
    "ReadWritePaths",
    "TemporaryFileSystem",
];

#[test]
fn the_unit_keeps_the_driver_where_the_kubelet_sees_its_mounts() {
    let unit = shipped("svid-csi.service");
    let settings = settings(&unit);
    assert!(settings.contains(&("Type", "notify")));
    for (name, value) in settings {
        assert!(!UNSHARE_MOUNTS.contains(&name), "{name}={value}");
        assert!(name != "RestrictSUIDSGID", "it refuses openat2(2)");
    }
}

#[test]
fn the_unit_writes_no_key_to_disk() {
    let unit = shipped("svid-csi.service");
    let settings = settings(&unit);
    for setting in [("LimitCORE", "0"), ("MemorySwapMax", "0"), ("WatchdogSignal", "SIGKILL")] {
        assert!(settings.contains(&setting), "{setting:?}");
    }
}

/// The variables of the environment file: those that are set, and with them each of the commented-out paragraphs.
fn environments() -> Vec<Vec<(String, String)>> {
    let file = shipped("driver.env");
    let own = |text: &str| -> Vec<(String, String)> {
        settings(text).into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    let uncommented = |paragraph: &str| {
        paragraph
            .lines()
            .map(|line| line.strip_prefix('#').unwrap_or(line))
            .fold(String::new(), |text, line| if line.starts_with("SVID_CSI_") { text + line + "\n" } else { text })
    };
    let choices =
        file.split("\n\n").filter(|paragraph| paragraph.contains("#SVID_CSI_") && !paragraph.contains("NODE_ID"));
    choices.map(|choice| [own(&file), own(&uncommented(choice))].concat()).collect()
}

fn parse(variables: &[(String, String)]) -> Result<svid_csi::cli::Command, String> {
    let find = |wanted: &str| {
        let value = |(name, value): &(String, String)| (name == wanted).then(|| OsString::from(value));
        variables.iter().find_map(value).or((wanted == "SVID_CSI_NODE_ID").then(|| "node-1".into()))
    };
    svid_csi::cli::parse(["svid-csi", "driver"].map(OsString::from), &find).map_err(|answer| answer.to_string())
}

#[test]
fn the_environment_file_is_valid_with_every_source() {
    let environments = environments();
    assert_eq!(environments.len(), 3);
    for variables in environments {
        parse(&variables).unwrap_or_else(|mistakes| panic!("{variables:?}: {mistakes}"));
    }
}

#[test]
fn the_shipped_environment_file_reports_the_missing_values() {
    let file = shipped("driver.env");
    let shipped: Vec<_> =
        settings(&file).into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let mistakes = parse(&shipped).expect_err("no source is chosen");
    assert!(mistakes.contains("--source"), "{mistakes}");
}

#[test]
fn every_variable_of_the_environment_file_is_one_of_a_flag() {
    let driver = svid_csi::cli::command();
    let driver = driver.find_subcommand("driver").unwrap();
    let flags: Vec<_> = driver.get_arguments().filter_map(|arg| arg.get_long()).collect();
    for (name, _) in environments().concat() {
        let flag = name.strip_prefix("SVID_CSI_").unwrap().to_lowercase().replace('_', "-");
        assert!(flags.contains(&flag.as_str()), "{name}");
    }
}
