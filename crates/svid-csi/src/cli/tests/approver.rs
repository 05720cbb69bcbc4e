//! `svid-csi approver`.

use std::time::Duration;

use svid_csi_core::approve::Mode;
use svid_csi_core::identity::KeyType;

use crate::approver::{Cluster, Listen};
use crate::cli::{ApproverCommand, Command, parse};

const DRIVER: &str = "system:serviceaccount:cert-manager:csi-driver-spiffe";

fn approver(line: &str, environment: &[(&str, &str)]) -> Result<ApproverCommand, String> {
    let lookup = |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
    match parse(line.split_whitespace().map(Into::into), &lookup) {
        Ok(Command::Approver(approver)) => Ok(*approver),
        Ok(other) => Err(format!("not an approver: {other:?}")),
        Err(answer) => Err(answer.to_string()),
    }
}

fn good(flags: &str) -> ApproverCommand {
    let line = format!("svid-csi approver --dry-run {flags}");
    approver(&line, &[]).unwrap_or_else(|answer| panic!("{line}\n{answer}"))
}

fn live(flags: &str) -> (ApproverCommand, Cluster) {
    let line = format!("svid-csi approver {flags}");
    let mut command = approver(&line, &[]).unwrap_or_else(|answer| panic!("{line}\n{answer}"));
    let cluster = command.cluster.take().expect("it runs in a cluster");
    (command, cluster)
}

fn mistakes(line: &str) -> Vec<String> {
    let answer = approver(line, &[]).expect_err(line);
    answer.lines().filter_map(|line| line.strip_prefix("  ")).map(str::to_owned).collect()
}

#[test]
fn the_defaults_are_the_predecessors() {
    let ApproverCommand { policy, warnings, cluster, .. } = good("");
    assert!(cluster.is_none());
    let issuer = policy.issuer.unwrap();
    assert_eq!((&*issuer.name, &*issuer.kind, &*issuer.group), ("my-spiffe-ca", "ClusterIssuer", "cert-manager.io"));
    assert_eq!((&*policy.driver_name, policy.trust_domain.as_str()), ("spiffe.csi.cert-manager.io", "cluster.local"));
    assert_eq!((policy.duration, policy.mode), (Duration::from_secs(3_600), Mode::Pod));
    assert_eq!(policy.key_types, KeyType::ALL.into());
    assert!(!policy.auto_approve_non_spiffe && warnings.is_empty());
}

#[test]
fn with_a_runtime_issuer_none_is_known_but_one_that_is_named() {
    let runtime = "--runtime-issuance-config-map-name=a --runtime-issuance-config-map-namespace=b";
    assert_eq!(live(runtime).0.policy.issuer, None);
    assert_eq!(live(&format!("{runtime} --issuer-name=")).0.policy.issuer, None);
    assert_eq!(live(&format!("{runtime} --issuer-name=ca")).0.policy.issuer.unwrap().name, "ca");
}

#[test]
fn the_predecessors_flags_as_they_are() {
    let line = format!(
        "/bin/cert-manager-csi-driver-spiffe-approver --log-level=1 --csi-driver-name=spiffe.csi.cert-manager.io \
         --certificate-request-duration=2h --issuer-name=ca --issuer-kind=Issuer --issuer-group=g.io \
         --trust-domain=example.org --use-own-service-account=true --driver-service-account={DRIVER} \
         --auto-approve-non-spiffe --leader-election-namespace=cert-manager --metrics-bind-address=:9402 \
         --readiness-probe-bind-address=:6060 --runtime-issuance-config-map-name= -kubeconfig k -n ns -dry-run"
    );
    let ApproverCommand { policy, warnings, .. } = approver(&line, &[]).unwrap();
    let issuer = policy.issuer.unwrap();
    assert_eq!((&*issuer.name, &*issuer.kind, &*issuer.group), ("ca", "Issuer", "g.io"));
    assert_eq!((policy.duration, policy.trust_domain.as_str()), (Duration::from_secs(7_200), "example.org"));
    assert!(matches!(policy.mode, Mode::OwnServiceAccount { driver } if driver.to_string() == DRIVER));
    assert!(policy.auto_approve_non_spiffe);
    let idle = "no effect in a dry run: --leader-election-namespace, --readiness-probe-bind-address, \
                --metrics-bind-address, -kubeconfig, -n";
    assert_eq!(warnings, [idle]);
}

#[test]
fn the_request_mode() {
    let bound = good(&format!("--request-mode node-bound --driver-service-account {DRIVER}")).policy.mode;
    assert!(matches!(bound, Mode::NodeBound { .. }));
    let both = format!("--use-own-service-account --request-mode node-bound --driver-service-account {DRIVER}");
    assert_eq!(good(&both).policy.mode, bound);
    let pod = good(&format!("--request-mode pod --use-own-service-account=false --driver-service-account {DRIVER}"));
    assert_eq!(pod.policy.mode, Mode::Pod);
    assert!(pod.warnings.len() == 1 && pod.warnings[0].starts_with("--driver-service-account has no effect"));
}

#[test]
fn key_types_are_a_list() {
    let two = [KeyType::EcdsaP256, KeyType::Ed25519].into();
    assert_eq!(good("--allowed-key-types ecdsa-p256,ed25519").policy.key_types, two);
    let environment = [("SVID_CSI_ALLOWED_KEY_TYPES", "ed25519,ecdsa-p256"), ("SVID_CSI_DRY_RUN", "true")];
    assert_eq!(approver("svid-csi approver", &environment).unwrap().policy.key_types, two);
}

#[test]
fn each_mistake_is_reported() {
    for (flags, expected) in [
        ("--metrics-bind-address host:1", "--metrics-bind-address: \"host:1\" is not an address to listen on"),
        ("--dry-runn", "--dry-runn: there is no such flag; did you mean --dry-run?"),
        ("--request-mode both", "--request-mode: \"both\" is not a request mode; use pod, own or node-bound"),
        ("--request-mode own", "--driver-service-account: missing; every request must come from this account"),
        ("--use-own-service-account", "--driver-service-account: missing"),
        ("--use-own-service-account --request-mode pod", "--request-mode: pods do not use"),
        ("--driver-service-account a:b", "--driver-service-account: \"a:b\" is not a service account"),
        ("--allowed-key-types ecdsa-p256,rsa", "--allowed-key-types: \"rsa\" is not a key type; use one of ecdsa-p256"),
        ("--certificate-request-duration 1d", "--certificate-request-duration: \"1d\" is not a duration"),
        ("--trust-domain A", "--trust-domain: \"A\""),
        ("--csi-driver-name A", "--csi-driver-name: \"A\" cannot name a CSIDriver"),
        ("--source socket", "--source: there is no such flag"),
    ] {
        let found = mistakes(&format!("svid-csi approver --dry-run {flags}"));
        assert!(found.len() == 1 && found[0].starts_with(expected), "{flags}: {found:#?}\nexpected {expected}");
    }
}

#[test]
fn all_mistakes_at_once() {
    let found =
        mistakes("svid-csi approver --bogus -v=x --trust-domain=A --request-mode=own --driver-service-account=b");
    let flags: Vec<_> = found.iter().filter_map(|line| line.split_once(": ")).map(|(flag, _)| flag).collect();
    assert_eq!(flags, ["--bogus", "-v", "--trust-domain", "--driver-service-account"]);
    let found = mistakes(
        "svid-csi approver --context=c --use-own-service-account --runtime-issuance-config-map-name=m \
         --readiness-probe-bind-address=6060 --metrics-bind-address=:1",
    );
    let flags: Vec<_> = found.iter().filter_map(|line| line.split_once(": ")).map(|(flag, _)| flag).collect();
    let expected = [
        "--readiness-probe-bind-address",
        "--driver-service-account",
        "--context",
        "--runtime-issuance-config-map-namespace",
    ];
    assert_eq!(flags, expected, "{found:#?}");
}

#[test]
fn without_a_dry_run_it_runs_in_the_cluster() {
    let (_, cluster) = live("");
    assert_eq!(&*cluster.lease_namespace, "cert-manager");
    assert_eq!((cluster.probes, cluster.metrics), (Some(Listen::Everywhere(6060)), Some(Listen::Everywhere(9402))));
    assert!(cluster.client.kubeconfig.is_none() && cluster.runtime_issuer.is_none());
    assert!(live("--dry-run=false").0.warnings.is_empty());
}

#[test]
fn the_predecessors_command_line_starts_unchanged() {
    let (command, cluster) = live(
        "--kubeconfig /k --issuer-name i --trust-domain t --leader-election-namespace ns \
         --readiness-probe-bind-address 127.0.0.1:1 --metrics-bind-address 0",
    );
    assert_eq!(cluster.client.kubeconfig, Some("/k".into()));
    assert_eq!(&*cluster.lease_namespace, "ns");
    let at = Listen::At("127.0.0.1:1".parse().unwrap());
    assert_eq!((cluster.probes, cluster.metrics), (Some(at), None));
    assert_eq!(command.policy.issuer.unwrap().name, "i");
    assert_eq!((command.policy.trust_domain.as_str(), command.warnings.len()), ("t", 0));
}

#[test]
fn the_runtime_issuer_is_a_config_map() {
    let (command, cluster) =
        live("--runtime-issuance-config-map-name=m --runtime-issuance-config-map-namespace=ns -n x --token=t");
    assert_eq!(cluster.runtime_issuer.map(|place| place.to_string()).as_deref(), Some("ns/m"));
    assert_eq!(command.warnings, ["no effect in this program: --token, -n"]);
    // The chart always sets the namespace.
    let (_, cluster) = live("--runtime-issuance-config-map-name= --runtime-issuance-config-map-namespace=ns");
    assert!(cluster.runtime_issuer.is_none());
}

#[test]
fn the_two_addresses_differ() {
    let same = mistakes("svid-csi approver --metrics-bind-address=:6060");
    assert!(
        same.len() == 1 && same[0].starts_with("--metrics-bind-address: is the same as --readiness-probe"),
        "{same:?}"
    );
    live("--metrics-bind-address=127.0.0.1:0 --readiness-probe-bind-address=127.0.0.1:0");
}
