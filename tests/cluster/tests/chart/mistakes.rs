//! Wrong values fail before anything is installed, with a message that says what to write.

use crate::helm;

/// The error messages for these arguments, without Helm's text around them.
fn refused(arguments: &str) -> Vec<String> {
    refused_by("1.37", arguments)
}

fn refused_by(kubernetes: &str, arguments: &str) -> Vec<String> {
    let error = helm::template(kubernetes, arguments).expect_err(arguments);
    let around = |line: &&str| {
        !(line.is_empty() || line.starts_with("Error: ") || line.starts_with("Use --debug") || *line == "svid-csi:")
    };
    error.lines().filter(around).map(str::to_owned).collect()
}

fn refused_with(cases: &[(&str, &str)]) {
    for (arguments, sentence) in cases {
        assert_eq!(refused(arguments), [*sentence], "{arguments}");
    }
}

#[test]
fn plans_that_do_not_exist() {
    refused_with(&[
        (
            "--set source=socket,delivery=files",
            "delivery: files needs an identity, and with source socket the driver has none: write delivery: socket-dir, or \
             source: broker.",
        ),
        (
            "--set source=local-ca,delivery=socket-dir",
            "delivery: socket-dir mounts an agent's socket, and source local-ca has none: write delivery: files or \
             delivery: workload-api.",
        ),
        (
            "--set alsoServe=spiffe.csi.cert-manager.io",
            "alsoServe: spiffe.csi.cert-manager.io is app.name already: write the other driver name, or leave alsoServe empty.",
        ),
        (
            "--set app.name=CSI.example.org",
            "app.name: \"CSI.example.org\" cannot name a CSIDriver: write lower case letters, digits, '-' and '.', such as \
             csi.spiffe.io.",
        ),
    ]);
}

/// Values of csi-driver-spiffe's chart that select an image of its own, or one that does not exist.
#[test]
fn images_of_the_predecessor() {
    let fix = "leave out what selected csi-driver-spiffe's images, or write the name and the tag of your own.";
    let tagged = |key: &str, image: &str| {
        format!(
            "{key}.tag: v0.13.0 is a version of csi-driver-spiffe, and {image} is to be an image of svid-csi: {fix}"
        )
    };
    let (usual, name) = ("svid-csi/svid-csi", "a.example/jetstack/cert-manager-csi-driver-spiffe");
    assert_eq!(refused("--set image.tag=v0.13.0"), [tagged("image", usual)]);
    let each = "--set driverImage.tag=v0.13.0,approverImage.tag=v0.13.0";
    assert_eq!(refused(each), [tagged("driverImage", usual), tagged("approverImage", usual)]);
    let mirrored = format!("--set image.repository.driver={name},image.repository.approver={name}-approver");
    assert_eq!(
        refused(&format!("{mirrored},image.tag=v0.13.0")),
        [tagged("image", name), tagged("image", &format!("{name}-approver"))]
    );
    refused_with(&[(
        "--set driverImage.digest=sha256:1,approverImage.digest=sha256:2",
        "driverImage.digest: driver and approver have two digests, but svid-csi/svid-csi is one image: leave out the digests \
         of csi-driver-spiffe's images, or write one in image.digest.",
    )]);
}

#[test]
fn agents_and_brokers() {
    let broker = "-f values-spire.yaml --set source=broker";
    refused_with(&[
        (
            broker,
            "source: broker needs the agent's Broker API: write broker.socket, such as /run/spire/broker/api.sock, or \
             broker.address.",
        ),
        (
            "-f values-spire.yaml --set allowedPlans={broker:files}",
            "source: broker needs the agent's Broker API: write broker.socket, such as /run/spire/broker/api.sock, or \
             broker.address.",
        ),
        (
            &format!("{broker},broker.socket=/run/a/b.sock,broker.address=10.0.0.1:1"),
            "broker: the driver uses one Broker API: write broker.socket or broker.address, not both.",
        ),
        (
            &format!("{broker},broker.socket=api.sock"),
            "broker.socket: \"api.sock\" is not the path of a socket on the node: write it like /run/spire/broker/api.sock.",
        ),
        (
            &format!("{broker},broker.address=10.0.0.1"),
            "broker.address: \"10.0.0.1\" has no port: write it like 10.0.0.1:8443.",
        ),
        (
            &format!("{broker},broker.address=127.0.0.1:8443"),
            "broker.address: 127.0.0.1:8443 is the node's own address, which the driver's pod cannot reach: write \
             app.driver.hostNetwork: true, or broker.socket.",
        ),
        (
            "-f values-spire.yaml --set agent.socketDir=/run/spire",
            "agent.socketDir: /run/spire lies in /run, all of which the driver would mount: write agent.mount: directory, or \
             move the socket to a folder like /run/spire/agent-sockets.",
        ),
        (
            "-f values-spire.yaml --set agent.socketDir=/run/spire/agent-sockets/spire-agent.sock",
            "agent.socketDir: /run/spire/agent-sockets/spire-agent.sock is the socket: write its folder, \
             /run/spire/agent-sockets.",
        ),
        (
            "-f values-spire.yaml --set agent.socketDir=",
            "agent.socketDir: \"\" is not a folder on the node: write the agent's, such as /run/spire/agent-sockets.",
        ),
    ]);
}

#[test]
fn trust_domains_and_durations() {
    refused_with(&[
        (
            "--set app.trustDomain=Example.org",
            "app.trustDomain: Example.org has upper case letters, which a SPIFFE ID must not have: write example.org.",
        ),
        (
            "-f values-standalone.yaml --set app.trustDomain=spiffe://example.org/ns",
            "app.trustDomain: spiffe://example.org/ns is a SPIFFE ID: write example.org.",
        ),
        (
            "--set app.trustDomain=example.org:8080",
            "app.trustDomain: \"example.org:8080\" is not a trust domain: write a name like example.org, of lower case \
             letters, digits, '.', '-' and '_'.",
        ),
        (
            "--set app.certificateRequestDuration=1d",
            "app.certificateRequestDuration: \"1d\" is not a duration: write it like 30m or 1h30m.",
        ),
        (
            "--set app.driver.volumeFileName.ca=tls.crt",
            "app.driver.volumeFileName: cert, key and ca need different names: write three, such as tls.crt, \
             tls.key and ca.crt.",
        ),
    ]);
}

#[test]
fn requests_and_bundles() {
    refused_with(&[
        (
            "--set requestMode=pod,app.driver.useOwnServiceAccount=true",
            "requestMode: pod contradicts app.driver.useOwnServiceAccount: true: leave one of them out.",
        ),
        (
            "--set trustBundle=configmap:a/b",
            "trustBundle: \"configmap:a/b\" does not name an object: write configmap:NAMESPACE/NAME/KEY or \
             clustertrustbundle:NAME.",
        ),
        (
            "--set trustBundle=clustertrustbundle:a,app.driver.sourceCABundle=/ca.crt",
            "trustBundle: the driver uses one trust bundle: write trustBundle or app.driver.sourceCABundle, not both.",
        ),
        (
            "--set allowedPlans={cert-manager:workload-api}",
            "trustBundle: the plan cert-manager:workload-api needs a trust bundle to deliver to pods: write trustBundle: \
             configmap:NAMESPACE/NAME/KEY, clustertrustbundle:NAME, or app.driver.sourceCABundle.",
        ),
        (
            "--set requestMode=node-bound,alsoServe=csi.spiffe.io,allowedPlans={cert-manager:files}",
            "requestMode: node-bound supports one driver name, but csi.spiffe.io and spiffe.csi.cert-manager.io both \
             use cert-manager: remove the cert-manager plans from allowedPlans, or install a release for each name.",
        ),
    ]);
}

#[test]
fn tokens_in_secrets() {
    let arguments = "--set serviceAccountTokenInSecrets=true";
    let sentence = "serviceAccountTokenInSecrets: Kubernetes 1.34 does not support true: write auto, which is true for 1.35 and \
                    later, or false.";
    assert_eq!(refused_by("1.34", arguments), [sentence]);
    assert!(helm::template("1.35", arguments).is_ok());
}

#[test]
fn approvers() {
    refused_with(&[
        (
            "--set app.approver.replicaCount=3,app.approver.leaderElection.enabled=false",
            "app.approver.leaderElection.enabled: without leader election 3 approvers could decide at the same time, such as \
             during an update: write true, or leave it out.",
        ),
        (
            "--set app.approver.metrics.port=6060",
            "app.approver.metrics.port: 6060 is also the port of app.approver.readinessProbe: write another port, such as \
             9402.",
        ),
    ]);
}

#[test]
fn nodes() {
    refused_with(&[
        (
            "--set kubeletDir=kubelet",
            "kubeletDir: \"kubelet\" is not a folder on the node: write a path that begins with /.",
        ),
        (
            &format!("--set kubeletDir=/{}", "x".repeat(80)),
            &format!(
                "kubeletDir: the driver's socket /{}/plugins/spiffe.csi.cert-manager.io/csi.sock has 125 bytes, but a socket's \
                 path has at most 107: write a shorter app.name, or link kubeletDir to a shorter path.",
                "x".repeat(80)
            ),
        ),
        (
            "--set staticPod=true",
            "staticPod: a static pod has no service account, and source cert-manager needs one: write staticPod: false, or \
             another source.",
        ),
        (
            "-f values-spire.yaml --set staticPod=true,startupTaint.enabled=true",
            "staticPod: a static pod has no service account, and the startup taint needs one: write startupTaint.enabled: \
             false.",
        ),
        (
            "-f values-standalone.yaml --set staticPod=true",
            "staticPod: a static pod has no service account, and the roots of all nodes need one: write localCA.publishRoots: \
             false; pods of different nodes then do not trust each other.",
        ),
    ]);
}

#[test]
fn policies_for_pods() {
    let sentence =
        "injection.enabled: Kubernetes 1.35 has no MutatingAdmissionPolicy: write false, or upgrade to 1.36.";
    assert_eq!(refused_by("1.35", "--set injection.enabled=true"), [sentence]);
    refused_with(&[(
        "--set usage.enabled=true",
        "usage.enabled: nothing is refused: write usage.namespaceLabels or usage.attributes.",
    )]);
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let both = refused("--set app.trustDomain=A,kubeletDir=x,requestMode=pod,app.driver.useOwnServiceAccount=true");
    assert_eq!(both.len(), 3, "{both:?}");
}

/// Values that another chart's values leave out; Helm then renders this chart without its defaults.
#[test]
fn reused_values() {
    refused_with(&[(
        "--set alsoServe=null",
        "The values of this chart are missing: upgrade with --reset-then-reuse-values in place of --reuse-values.",
    )]);
}

#[test]
fn unknown_values() {
    refused_with(&[
        (
            "--set app.driver.volumeFileName.certificate=a",
            "- at '/app/driver/volumeFileName': additional properties 'certificate' not allowed",
        ),
        ("--set image.nam=x", "- at '/image': additional properties 'nam' not allowed"),
        ("--set app.approver.replicas=2", "- at '/app/approver': additional properties 'replicas' not allowed"),
    ]);
    let said = refused("--set nodeSelectr.a=b");
    assert_eq!(
        said[..2],
        ["- at '': additional properties 'nodeSelectr' not allowed", "- at '': invalid propertyName 'nodeSelectr'"]
    );
    assert!(said[2].starts_with("  - at '': value must be one of 'nameOverride', 'source', "), "{said:?}");
    assert!(said[2].contains("'nodeSelector'"), "{said:?}");
}

#[test]
fn unknown_words() {
    refused_with(&[
        ("--set source=spire", "- at '/source': value must be one of 'socket', 'broker', 'cert-manager', 'local-ca'"),
        ("--set delivery=file", "- at '/delivery': value must be one of '', 'socket-dir', 'files', 'workload-api'"),
        ("--set requestMode=node", "- at '/requestMode': value must be one of '', 'pod', 'own', 'node-bound'"),
        ("--set app.approver.replicaCount=two", "- at '/app/approver/replicaCount': got string, want integer"),
        (
            "--set allowedPlans={socket:files}",
            "- at '/allowedPlans/0': value must be one of 'socket:socket-dir', 'broker:files', 'broker:workload-api', \
             'cert-manager:files', 'cert-manager:workload-api', 'local-ca:files', 'local-ca:workload-api'",
        ),
    ]);
}
