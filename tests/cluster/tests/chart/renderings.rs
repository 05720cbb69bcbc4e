//! The arguments with which the chart is rendered: every profile, and values for its branches.

/// A name and the arguments.
pub const ALL: &[(&str, &str)] = &[
    ("bare", ""),
    ("spire", "-f values-spire.yaml"),
    ("cert-manager", "-f values-cert-manager.yaml"),
    ("standalone", "-f values-standalone.yaml"),
    (
        "predecessor",
        "-f ../../tests/cluster/tests/chart/values/predecessor.yaml \
         --api-versions security.openshift.io/v1",
    ),
    ("agent alone", "-f values-spire.yaml --set agent.mount=directory,allowMissingReadOnly=true"),
    (
        "broker",
        "-f values-spire.yaml --set source=broker,delivery=workload-api,broker.socket=/run/spire/broker/api.sock \
         --set allowedPlans={socket:socket-dir},broker.serverID=spiffe://example.org/spire/agent/node-1",
    ),
    (
        "broker elsewhere",
        "-f values-spire.yaml --set allowedPlans={broker:files},broker.socket=/var/lib/broker/public/api.sock",
    ),
    (
        "broker over TCP",
        "-f values-spire.yaml --set source=broker,broker.address=127.0.0.1:8443,app.driver.hostNetwork=true",
    ),
    ("both names", "-f values-spire.yaml --set alsoServe=spiffe.csi.cert-manager.io,requestMode=node-bound"),
    ("both names, the other way", "--set alsoServe=csi.spiffe.io,serviceAccountTokenInSecrets=auto"),
    ("own", "--set requestMode=own,app.issuer.kind=Issuer,trustBundle=clustertrustbundle:example.org:spiffe:roots"),
    (
        "issuers of others",
        "--set app.issuer.group=awspca.cert-manager.io,app.issuer.kind=AWSPCAClusterIssuer \
         --set trustBundle=configmap:elsewhere/bundle/ca.crt,app.runtimeIssuanceConfigMap=issuer \
         --set delivery=workload-api,keyType=ecdsa-p384,app.approver.allowedKeyTypes={ecdsa-p384}",
    ),
    ("without approver", "-f values-cert-manager.yaml --set app.approver.enabled=false"),
    (
        "everything on",
        "-f values-cert-manager.yaml --set startupTaint.enabled=true,networkPolicy.enabled=true \
         --set podMonitor.enabled=true,prometheusRule.enabled=true,dashboard.enabled=true,resourceQuota.enabled=true,logFormat=json \
         --set app.approver.metrics.service.servicemonitor.enabled=true,dataSizeLimit=256Mi \
         --set openshift.securityContextConstraint.enabled=true,allowedPlans={local-ca:files} \
         --set commonLabels.team=identity,localCA.dir=/var/lib/svid-csi-ca,localCA.jwtSVIDTTL=10m \
         --set app.driver.extraArgs={--renewal-concurrency=16},app.driver.podAnnotations.a=b,app.approver.podAnnotations.a=b \
         --set app.driver.resources.limits.memory=256Mi,app.approver.resources.requests.cpu=10m \
         --set imagePullSecrets[0].name=registry,priorityClassName=important,affinity.nodeAffinity=null",
    ),
    (
        "policies for pods",
        "-f values-standalone.yaml --set usage.enabled=true,usage.namespaceLabels.a=b,usage.attributes={svid-csi/hint}",
    ),
    ("policies without an API server", "-f values-spire.yaml --set networkPolicy.enabled=true"),
    ("GKE's manifests", "-f ../examples/gke/values.yaml"),
    ("k0s", "-f values-standalone.yaml --set kubeletDir=/var/lib/k0s/kubelet"),
    ("MicroK8s", "-f values-spire.yaml --set kubeletDir=/var/snap/microk8s/common/var/lib/kubelet/"),
    ("IPv6 alone", "-f values-standalone.yaml --set app.driver.bindAddress=::"),
    ("static pod", "-f values-spire.yaml --set staticPod=true"),
    ("static pod, standalone", "-f values-standalone.yaml --set staticPod=true,localCA.publishRoots=false"),
];

/// The arguments of one rendering.
pub fn named(name: &str) -> &'static str {
    ALL.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no rendering {name}")).1
}
