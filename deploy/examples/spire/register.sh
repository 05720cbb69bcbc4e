#!/bin/sh
# Registers the nodes and the example workload at the SPIRE server. A second run reports that the entries exist.
set -eu

entry() {
    kubectl exec -n spire spire-server-0 -c spire-server -- /opt/spire/bin/spire-server entry create "$@"
}

# Every agent of the cluster.
entry -node -spiffeID spiffe://example.org/node -selector k8s_psat:cluster:example-cluster || true
# Pods with the service account `example` in the namespace `example`.
entry -parentID spiffe://example.org/node -spiffeID spiffe://example.org/ns/example/sa/example \
    -selector k8s:ns:example -selector k8s:sa:example || true
