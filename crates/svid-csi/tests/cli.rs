//! The built binary, called as administrators and manifests call it.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

const BINARY: &str = env!("CARGO_BIN_EXE_svid-csi");

/// Runs `program` with only these variables in its environment.
fn run(program: &Path, args: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(program).args(args).env_clear().envs(environment.iter().copied()).output().expect("the binary runs")
}

/// The mistakes that the binary reported, after checking that it refused the command line.
fn refused(program: &Path, args: &[&str], environment: &[(&str, &str)]) -> Vec<String> {
    let output = run(program, args, environment);
    let stderr = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
    assert!(output.stdout.is_empty(), "stdout is for what was asked for");
    stderr.lines().filter_map(|line| line.strip_prefix("  ")).map(str::to_owned).collect()
}

fn flags(mistakes: &[String]) -> Vec<&str> {
    mistakes.iter().map(|line| line.split(": ").next().unwrap_or(line)).collect()
}

#[test]
fn all_mistakes_are_reported_at_once_with_exit_code_2() {
    let args = [
        "driver",
        "--source=local-ca",
        "--endpoint=tcp://1.2.3.4:5",
        "-node-idd",
        "n1",
        "--trust-domain=Not/Valid",
        "--certificate-request-duration=forever",
        "--data-root=",
    ];
    let mistakes = refused(Path::new(BINARY), &args, &[]);
    let expected = [
        "-node-idd",
        "--endpoint",
        "--trust-domain",
        "--certificate-request-duration",
        "--node-id",
        "--driver-name",
        "--data-root",
    ];
    assert_eq!(flags(&mistakes), expected, "{mistakes:#?}");
    assert!(mistakes[0].contains("did you mean --node-id?"), "{}", mistakes[0]);
}

#[test]
fn the_name_it_is_called_by_selects_the_profile() {
    let dir = tempfile::tempdir().unwrap();
    let called_as = |name: &str| {
        let link = dir.path().join(name);
        symlink(BINARY, &link).unwrap();
        link
    };
    let spiffe = called_as("spiffe-csi-driver");
    assert_eq!(flags(&refused(&spiffe, &[], &[])), ["--node-id", "--workload-api-socket-dir"]);
    assert_eq!(flags(&refused(&spiffe, &[], &[("MY_NODE_NAME", "n1")])), ["--workload-api-socket-dir"]);

    let cert_manager = called_as("cert-manager-csi-driver-spiffe");
    let manifest =
        ["--node-id=n1", "--endpoint=unix://plugin/csi.sock", "--data-root=csi-data-dir", "--issuer-name=ca"];
    let mistaken = [&manifest[..], &["--request-mode=pods"]].concat();
    assert_eq!(flags(&refused(&cert_manager, &mistaken, &[])), ["--request-mode"]);
}

#[test]
fn the_environment_is_read_and_named() {
    let args = ["driver", "--profile", "csi.spiffe.io", "-node-id", "n1"];
    let environment = [
        ("SVID_CSI_WORKLOAD_API_SOCKET_DIR", "/agent"),
        ("SVID_CSI_STABLE_SOCKET_DIR", "/agent"),
        ("SVID_CSI_PORT", "tcp://10.0.0.1:80"),
        ("SVID_CSI_NODE_ID", ""),
    ];
    assert_eq!(flags(&refused(Path::new(BINARY), &args, &environment)), ["SVID_CSI_STABLE_SOCKET_DIR"]);
}

#[test]
fn help_and_version_go_to_stdout() {
    for args in
        [["driver", "--help"].as_slice(), &["--help"], &["demo", "-h"], &["--version"], &["driver", "--version"]]
    {
        let output = run(Path::new(BINARY), args, &[]);
        assert!(output.status.success() && output.stderr.is_empty() && !output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn relative_paths_are_relative_to_the_working_directory() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["approver", "--kubeconfig", "./missing", "--readiness-probe-bind-address", "127.0.0.1:0"];
    let output = Command::new(BINARY).args(args).env_clear().current_dir(folder.path()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let path = folder.path().canonicalize().unwrap().join("missing");
    assert!(!output.status.success() && stderr.contains(path.to_str().unwrap()), "{stderr}");
}
