//! The flags of source broker.

use svid_csi_core::plan::{Issuer, Plan};

use super::{LOCAL_CA, driver, good, here, mistakes};
use crate::source::broker::config::BrokerEndpoint;

/// The documented command line, for `files` or `workload-api`.
const BROKER: &str = "svid-csi driver --driver-name csi.spiffe.io --source broker --node-id N --endpoint unix://S \
                      --data-root R --workload-api-socket-dir D --delivery";

#[test]
fn broker_as_promised() {
    for (delivery, plan) in
        [("files", Plan::Files(Issuer::Broker)), ("workload-api", Plan::WorkloadApi(Issuer::Broker))]
    {
        let command = good(&format!("{BROKER} {delivery} --broker-socket B"));
        let broker = command.config.broker.unwrap();
        assert_eq!(broker.endpoint, BrokerEndpoint::Unix(here("B")));
        assert_eq!((broker.workload_api_dir.as_path(), broker.server_id), (&*here("D"), None));
        assert_eq!(command.config.kubelet.drivers[0].default_plan, plan);
        assert!(
            command.config.agent.is_none()
                && command.config.local_ca.is_none()
                && command.config.cert_manager.is_none()
        );
        assert_eq!(command.warnings, [""; 0]);
    }
}

#[test]
fn the_broker_may_be_anywhere() {
    let endpoint = |flags: &str, environment: &[(&str, &str)]| {
        let command = driver(&format!("{BROKER} files {flags}"), environment).unwrap();
        command.config.broker.unwrap().endpoint.to_string()
    };
    assert_eq!(endpoint("--broker-socket unix:///run/b.sock", &[]), "unix:///run/b.sock");
    assert_eq!(endpoint("--broker-address 10.0.0.7:8443", &[]), "tcp://10.0.0.7:8443");
    assert_eq!(endpoint("--broker-address tcp://[::1]:8443", &[]), "tcp://[::1]:8443");
    for uri in ["unix:///run/b.sock", "tcp://127.0.0.1:8443"] {
        assert_eq!(endpoint("", &[("SPIFFE_BROKER_SOCKET", uri)]), uri);
    }
    assert_eq!(endpoint("--broker-socket /b", &[("SPIFFE_BROKER_SOCKET", "tcp://127.0.0.1:1")]), "unix:///b");
}

#[test]
fn every_mistake_in_one_run() {
    let line = "svid-csi driver --driver-name csi.spiffe.io --source broker --delivery files --node-id n --endpoint s \
                --broker-socket b --broker-address 127.0.0.1:1 --broker-server-id spiffe://Example.org/a";
    let found = mistakes(line);
    let expected = [
        "--broker-server-id: ",
        "--data-root: missing",
        "--workload-api-socket-dir: missing",
        "--broker-address: conflicts with --broker-socket",
    ];
    for expected in expected {
        assert_eq!(found.iter().filter(|mistake| mistake.starts_with(expected)).count(), 1, "{expected} in {found:#?}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn one_mistake_each() {
    for (flags, expected) in [
        (
            "",
            "--broker-socket: missing; give the socket of the agent's Broker API, or --broker-address, or the variable SPIFFE_BROKER_SOCKET",
        ),
        ("--broker-address localhost:8443", "--broker-address: \"localhost:8443\" is not an IP address"),
        ("--broker-socket tcp://127.0.0.1:1", "--broker-socket: \"tcp://127.0.0.1:1\" is not a Unix socket"),
        (
            "--broker-socket b --broker-server-id example.org/agent",
            "--broker-server-id: \"example.org/agent\": a SPIFFE ID begins",
        ),
        (
            "--broker-socket b --broker-server-id spiffe://example.org",
            "--broker-server-id: \"spiffe://example.org\" names a trust domain",
        ),
        ("--broker-socket b --issuer-name ca", "--issuer-name: belongs to the source cert-manager"),
    ] {
        let found = mistakes(&format!("{BROKER} files {flags}"));
        assert!(found.len() == 1 && found[0].starts_with(expected), "{flags}: {found:#?}");
    }
    for uri in ["b.sock", "unix://host/b.sock", "tcp://localhost:1", "tcp://127.0.0.1:1/x", "unix:///b?x", "https://b"]
    {
        let answer = driver(&format!("{BROKER} files"), &[("SPIFFE_BROKER_SOCKET", uri)]).unwrap_err();
        assert!(
            answer.contains("  SPIFFE_BROKER_SOCKET: ") && answer.starts_with("error: 1 mistake"),
            "{uri}: {answer}"
        );
    }
}

#[test]
fn a_kubeconfig_serves_events() {
    let command = good(&format!("{BROKER} files --broker-socket b --kubeconfig k --context c"));
    assert!(command.config.broker.is_some());
    let client = command.config.client;
    assert_eq!((client.kubeconfig, client.context.as_deref()), (Some(here("k")), Some("c")));
    assert_eq!(command.warnings, [""; 0]);
    assert!(mistakes(&format!("{BROKER} files --broker-socket b --context c"))[0].starts_with("--context: selects"));
}

#[test]
fn flags_that_have_no_effect() {
    let warnings = good(&format!("{LOCAL_CA} --broker-socket b --broker-server-id spiffe://example.org/a")).warnings;
    assert_eq!(warnings.len(), 2, "{warnings:#?}");
    assert!(warnings.iter().all(|warning| warning.contains("no volume may use the source broker")));
}
