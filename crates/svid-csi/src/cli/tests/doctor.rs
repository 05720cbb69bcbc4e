//! `svid-csi doctor`, and the collector of traces.

use svid_csi_core::findings::Category;

use crate::cli::{Command, DoctorCommand, parse};
use crate::doctor::before::BeforeOptions;

fn before(line: &str) -> Result<BeforeOptions, String> {
    let words = format!("svid-csi doctor {line}");
    match parse(words.split_whitespace().map(Into::into), &|_| None) {
        Ok(Command::Doctor(DoctorCommand::Before(options))) => Ok(options),
        Ok(other) => panic!("{line}: {other:?}"),
        Err(mistakes) => Err(mistakes.to_string()),
    }
}

#[test]
fn a_node_without_a_driver_needs_no_socket() {
    let options = before("--pre").unwrap();
    assert_eq!((options.driver_name.as_str(), options.kubelet_dir, options.host_pid), ("csi.spiffe.io", None, None));
    assert_eq!(options.categories, Category::ALL);
    let options = before("--pre --host-pid 1 --driver-name=a.b --category kernel --kubelet-dir /k").unwrap();
    assert_eq!((options.host_pid, options.driver_name.as_str()), (Some(1), "a.b"));
    assert_eq!((options.categories, options.kubelet_dir), (vec![Category::Kernel], Some("/k".into())));
}

#[test]
fn a_driver_and_none_contradict_each_other() {
    let refused = before("--pre --data-root /d --pod shop/web --at +1d").unwrap_err();
    for flag in ["--pod", "--at"] {
        assert!(refused.contains(&format!("{flag}: looks at a driver, but --pre at a node without one")), "{refused}");
    }
    for pid in ["0", "-1", "x", "99999999999"] {
        let refused = before(&format!("--pre --host-pid={pid}")).unwrap_err();
        assert!(refused.contains("write 1 in a pod with hostPID"), "{refused}");
    }
}

/// In the container of a driver that is configured by its environment.
#[test]
fn the_environment_of_a_driver_does_no_harm() {
    let of_driver = |name: &str| match name {
        "SVID_CSI_DATA_ROOT" | "SVID_CSI_KUBELET_DIR" | "SVID_CSI_WORKLOAD_API_SOCKET_DIR" => Some("/d".into()),
        "SVID_CSI_DRIVER_NAME" => Some("csi.example".into()),
        _ => None,
    };
    let doctor = |line: &str| parse(line.split_whitespace().map(Into::into), &of_driver);
    let examined = doctor("svid-csi doctor");
    assert!(matches!(examined, Ok(Command::Doctor(DoctorCommand::Examine(_)))), "{examined:?}");
    let examined = doctor("svid-csi doctor --pre");
    assert!(matches!(examined, Ok(Command::Doctor(DoctorCommand::Before(_)))), "{examined:?}");
}

#[test]
fn a_mistake_of_a_collector_is_named_with_the_others() {
    let words = "svid-csi driver --source local-ca --otlp-endpoint=https://c:4318 --node-id n";
    let refused = parse(words.split_whitespace().map(Into::into), &|_| None).unwrap_err().to_string();
    assert!(refused.contains("--otlp-endpoint: \"https://c:4318\" needs TLS"), "{refused}");
    assert!(refused.contains("--data-root: missing"), "{refused}");
}
