//! Mistakes, one by one and all at once.

use super::{CERT_MANAGER, LOCAL_CA, SPIFFE, driver};
use crate::cli::tests::mistakes;

/// Checks that each of these flags, added to `line`, is exactly one mistake: the flag as written, and the fix.
fn each_is_one_mistake<F: AsRef<str>>(line: &str, cases: &[(F, &str)]) {
    for (flags, expected) in cases {
        let found = mistakes(&format!("{line} {}", flags.as_ref()));
        assert_eq!(found.len(), 1, "{}: {found:#?}", flags.as_ref());
        assert!(found[0].starts_with(expected), "{}\n     got {}\nexpected {expected}", flags.as_ref(), found[0]);
    }
}

#[test]
fn words_that_are_not_flags() {
    let cases = [
        ("--nodeid x", "--nodeid: there is no such flag; did you mean --node-id?"),
        ("-frobnicate=1", "-frobnicate: there is no such flag"),
        ("stray", "stray: is neither a flag"),
        ("--allow-missing-read-only false", "false: is neither a flag"),
        ("--allow-missing-read-only=maybe", "--allow-missing-read-only: \"maybe\" is neither"),
        ("--local-ca-dir --admin-socket 0", "--local-ca-dir: has no value"),
        ("--node-id", "--node-id: has no value"),
        ("--issuer-name ca", "--issuer-name: belongs to the source cert-manager"),
    ];
    each_is_one_mistake(LOCAL_CA, &cases);
}

#[test]
fn wrong_values() {
    let cases = [
        ("--profile spiffe", "--profile: \"spiffe\" is not a profile; use csi.spiffe.io"),
        ("--source spire", "--source: source \"spire\" does not exist in this version; use"),
        ("--delivery env", "--delivery: delivery \"env\""),
        ("--delivery socket-dir", "--delivery: source `local-ca` cannot be delivered as `socket-dir`"),
        ("--allow-plan local-ca", "--allow-plan: plan \"local-ca\" is not of the form"),
        ("--driver-name Demo.io", "--driver-name: \"Demo.io\" cannot name a CSIDriver"),
        ("-csi-socket-path tcp://h:1", "-csi-socket-path: \"tcp://h:1\" is not a Unix socket"),
        ("--trust-domain Example.org", "--trust-domain: \"Example.org\""),
        ("--certificate-request-duration 5s", "--certificate-request-duration: 5s is too short"),
        ("--certificate-request-duration 0", "--certificate-request-duration: 0 is too short"),
        ("--certificate-request-duration 100000h", "--certificate-request-duration: 100000h is longer"),
        ("--certificate-request-duration 1d", "--certificate-request-duration: \"1d\" is not a duration"),
        ("--jwt-svid-ttl 29s", "--jwt-svid-ttl: 29s is too short"),
        ("--jwt-svid-ttl 25h", "--jwt-svid-ttl: 25h is too long"),
        ("--jwt-svid-ttl 5", "--jwt-svid-ttl: \"5\" is not a duration"),
        ("--data-size-limit 1K", "--data-size-limit: \"1K\" is not a number of bytes"),
        (
            "--layout tls",
            "--layout: \"tls\" is not a layout; use pem, spiffe, pod-certificate, gke, spiffe-helper, istio",
        ),
        (
            "--layout gke --file-name-key k",
            "--file-name-key: is for the files of layout pem; leave it out with --layout gke",
        ),
        ("--file-name-key a/b", "--file-name-key: \"a/b\""),
        ("--file-name-key tls.crt", "--file-name-key: the certificate and the key cannot both be"),
        (
            "--metrics-address :9402",
            "--metrics-address: \":9402\" is not an IP address with a port; write 0.0.0.0:9402",
        ),
        (
            "--startup-taint a/b:NoSchedule",
            "--startup-taint: \"a/b:NoSchedule\" cannot be the key of a taint; give only the key",
        ),
        ("--local-ca-roots roots", "--local-ca-roots: \"roots\" names no ConfigMap; write NAMESPACE/NAME"),
        ("--log-format yaml", "--log-format: \"yaml\""),
        ("-v 11", "-v: \"11\" is not a log level"),
    ];
    each_is_one_mistake(LOCAL_CA, &cases);
}

#[test]
fn too_long_values() {
    let (socket, dir) = (format!("/{}", "s".repeat(110)), format!("/{}", "d".repeat(100)));
    let cases = [
        (format!("--endpoint {socket}"), "--endpoint: "),
        (format!("--admin-socket {socket}"), "--admin-socket: "),
        (format!("--data-root {dir}"), "--data-root: "),
        (format!("--kubelet-registration-path /p --kubelet-registration-dir {dir}"), "--kubelet-registration-dir: "),
        (format!("--node-id {}", "n".repeat(257)), "--node-id: has 257 bytes; CSI allows 256"),
        (format!("--driver-name {}", "n".repeat(64)), "--driver-name: "),
    ];
    each_is_one_mistake(LOCAL_CA, &cases);
}

/// The kubelet connects to the registration socket by its own path, which may be too long although the driver's is
/// short enough.
#[test]
fn registration_sockets_that_are_too_long_for_the_kubelet() {
    let root = format!("/{}", "k".repeat(80));
    let registers = "--driver-name a.b --kubelet-registration-dir /registration --kubelet-registration-path";
    let kept = format!("{root}/plugins_registry/a.b-reg.sock has 111 bytes; a socket's path has at most 107");
    let by_path = format!("--kubelet-registration-path: the kubelet sees the registration socket at {kept}");
    let by_dir = format!("--kubelet-dir: the kubelet sees the registration socket at {kept}");
    let cases = [
        (format!("{registers} {root}/plugins/a.b/c.sock"), by_path.as_str()),
        (format!("{registers} /p --kubelet-dir {root}"), by_dir.as_str()),
    ];
    each_is_one_mistake(LOCAL_CA, &cases);
}

#[test]
fn missing_flags() {
    let cases = [
        ("--node-id=", "--node-id: missing; set it, or set the variable MY_NODE_NAME to the node's name"),
        ("--data-root=", "--data-root: missing"),
        ("--source=", "--source: missing; give socket, broker, cert-manager or local-ca"),
        ("--driver-name=", "--driver-name: missing"),
        ("--endpoint=", "--endpoint: missing"),
        ("--allow-plan socket:socket-dir", "--workload-api-socket-dir: missing"),
        ("--kubelet-registration-dir /g", "--kubelet-registration-path: missing"),
    ];
    each_is_one_mistake(LOCAL_CA, &cases);
    let cases = [
        ("-workload-api-socket-dir=", "--workload-api-socket-dir: missing"),
        ("--allow-plan local-ca:files --trust-domain a", "--data-root: missing; the plan local-ca:files keeps"),
    ];
    each_is_one_mistake(SPIFFE, &cases);
}

#[test]
fn contradicting_flags() {
    let cases = [
        ("--admin-socket /s", "--admin-socket: /s is already the socket of --endpoint"),
        (
            "--also-profile spiffe.csi.cert-manager.io:csi-socket=/s",
            "--also-profile: /s is already the socket of --endpoint",
        ),
        (
            "--also-profile spiffe.csi.cert-manager.io",
            "--also-profile: spiffe.csi.cert-manager.io: the socket is missing",
        ),
        ("--startup-taint a/b", "--startup-taint: needs --kubelet-registration-dir"),
        ("--local-ca-roots a/b --node-id n:1", "--local-ca-roots: --node-id \"n:1\" cannot be a key of a ConfigMap"),
        ("--local-ca-roots a/b --context c", "--context: selects from a kubeconfig"),
        ("--local-ca-roots a/b --token t", "--token: belongs to the source cert-manager"),
        ("--also-profile csi.spiffe.io:csi-socket=/o,x=y", "--also-profile: csi.spiffe.io: \"x\" is not a setting"),
        (
            "--also-profile spiffe.csi.cert-manager.io:csi-socket=/o --kubelet-registration-dir /g \
             --kubelet-registration-path /p",
            "--also-profile: spiffe.csi.cert-manager.io has no path for",
        ),
    ];
    each_is_one_mistake(LOCAL_CA, &cases);
    let cases = [
        ("--also-profile csi.spiffe.io:csi-socket=/o", "--also-profile: csi.spiffe.io is already served"),
        ("--stable-socket-dir /agent/", "--stable-socket-dir: /agent/ and the agent's /agent overlap"),
        ("--stable-socket-dir /agent/in", "--stable-socket-dir: "),
    ];
    each_is_one_mistake(SPIFFE, &cases);
}

#[test]
fn mistakes_about_cert_manager() {
    let cases = [
        ("--request-mode pods", "--request-mode: \"pods\" is not a request mode"),
        ("--request-mode pod --use-own-service-account", "--request-mode: pods do not use"),
        ("--renewal-concurrency 0", "--renewal-concurrency: \"0\" is not a whole number"),
        ("--runtime-issuance-config-map-name cm", "--runtime-issuance-config-map-namespace: missing"),
        (
            "--source-ca-bundle b --trust-bundle clustertrustbundle:x",
            "--trust-bundle: conflicts with --source-ca-bundle",
        ),
        ("--context c", "--context: selects from a kubeconfig"),
        (
            "--extra-certificate-request-annotations a",
            "--extra-certificate-request-annotations: \"a\" is not an annotation",
        ),
        ("--key-type rsa-1024", "--key-type: \"rsa-1024\" is not a key type"),
        ("--data-root=", "--data-root: missing; the plan cert-manager:files"),
        ("--delivery workload-api", "--trust-bundle: missing; the plan cert-manager:workload-api"),
        ("--allow-plan cert-manager:workload-api", "--trust-bundle: missing; the plan cert-manager:workload-api"),
    ];
    each_is_one_mistake(CERT_MANAGER, &cases);
    let other = "svid-csi driver --source cert-manager --driver-name x --node-id n --endpoint e --data-root r";
    each_is_one_mistake(
        other,
        &[("--issuer-name i", "--trust-domain: missing"), ("--trust-domain t", "--issuer-name: missing")],
    );
    let cases = [("--issuer-name i", "--issuer-name: belongs to the source cert-manager")];
    each_is_one_mistake(SPIFFE, &cases);
}

#[test]
fn all_mistakes_at_once() {
    let found =
        mistakes("svid-csi driver --source local-ca --bogus -v=x --log-format=y --certificate-request-duration=z");
    let flags: Vec<_> = found.iter().filter_map(|line| line.split_once(": ")).map(|(flag, _)| flag).collect();
    assert_eq!(
        flags,
        [
            "--bogus",
            "-v",
            "--log-format",
            "--certificate-request-duration",
            "--node-id",
            "--driver-name",
            "--endpoint",
            "--data-root",
        ]
    );
}

#[test]
fn a_token_is_never_repeated() {
    let answer = driver(&format!("{SPIFFE} --token s3cret"), &[]).unwrap_err();
    assert!(answer.contains("--token") && !answer.contains("s3cret"), "{answer}");
}
