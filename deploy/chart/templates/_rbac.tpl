{{/* The driver's cluster-wide permissions. Never anything with Secrets. */}}
{{- define "svid-csi.driver-rules" -}}
{{- $values := .Values -}}
{{- $plans := include "svid-csi.plans" . | fromJson -}}
{{- if $plans.certManager }}
- apiGroups: [cert-manager.io]
  resources: [certificaterequests]
  # In request mode pod, the pods create them.
  verbs: {{ eq (include "svid-csi.request-mode" .) "pod" | ternary "[list, watch, delete]" "[list, watch, delete, create]" }}
- apiGroups: [storage.k8s.io]
  resources: [csidrivers]
  resourceNames: {{ $plans.certManagerDrivers | toJson }}
  verbs: [get]
{{- if eq $values.app.issuer.group "cert-manager.io" }}
# To report an issuer that cannot sign SPIFFE IDs.
- apiGroups: [cert-manager.io]
  resources: [{{ eq $values.app.issuer.kind "Issuer" | ternary "issuers" "clusterissuers" }}]
  resourceNames: [{{ $values.app.issuer.name }}]
  verbs: [get]
{{- end }}
{{- with $values.trustBundle | regexFind "^clustertrustbundle:.*" }}
- apiGroups: [certificates.k8s.io]
  resources: [clustertrustbundles]
  resourceNames: [{{ trimPrefix "clustertrustbundle:" . | quote }}]
  verbs: [get, list, watch]
{{- end }}
{{- end }}
{{- if or $plans.certManager $plans.broker }}
- apiGroups: [""]
  resources: [events]
  verbs: [create]
{{- end }}
{{- if $values.startupTaint.enabled }}
# To remove the startup taint from its node.
- apiGroups: [""]
  resources: [nodes]
  verbs: [get, patch]
{{- else if and $plans.localCA $values.localCA.publishRoots }}
# To remove the trust bundles of deleted nodes.
- apiGroups: [""]
  resources: [nodes]
  verbs: [get]
{{- end }}
{{- if include "svid-csi.openshift" . }}
- apiGroups: [security.openshift.io]
  resources: [securitycontextconstraints]
  resourceNames: [{{ $values.openshift.securityContextConstraint.name }}]
  verbs: [use]
{{- end }}
{{- end -}}

{{/* The driver's permissions on single ConfigMaps: a list of {namespace, name, verbs}, as JSON. */}}
{{- define "svid-csi.driver-config-maps" -}}
{{- $plans := include "svid-csi.plans" . | fromJson -}}
{{- $read := list "get" "list" "watch" -}}
{{- $maps := list -}}
{{- if and $plans.certManager .Values.app.runtimeIssuanceConfigMap -}}
{{- $maps = append $maps (dict "namespace" .Release.Namespace "name" .Values.app.runtimeIssuanceConfigMap "verbs" $read) -}}
{{- end -}}
{{- $bundle := .Values.trustBundle | trimPrefix "configmap:" | splitList "/" -}}
{{- if and $plans.certManager (hasPrefix "configmap:" .Values.trustBundle) -}}
{{- $maps = append $maps (dict "namespace" (index $bundle 0) "name" (index $bundle 1) "verbs" $read) -}}
{{- end -}}
{{- if and $plans.localCA .Values.localCA.publishRoots (not .Values.staticPod) -}}
{{- $roots := printf "%s-roots" (include "svid-csi.name" .) -}}
{{- $maps = append $maps (dict "namespace" .Release.Namespace "name" $roots "verbs" (append $read "patch")) -}}
{{- end -}}
{{- dict "maps" $maps | toJson -}}
{{- end -}}

{{/*
The signers the approver may approve and deny for. Unless named, those of the one issuer; all of them where the issuer is only
known at run time or other requests are approved too.
*/}}
{{- define "svid-csi.signer" -}}
{{- $app := .Values.app -}}
{{- if $app.approver.signerName -}}
{{- $app.approver.signerName -}}
{{- else if not (or $app.runtimeIssuanceConfigMap $app.approver.autoApproveNonSPIFFE) -}}
{{- $name := and (eq $app.issuer.group "cert-manager.io") (eq $app.issuer.kind "ClusterIssuer") | ternary $app.issuer.name "*" -}}
{{- printf "%ss.%s/%s" (lower $app.issuer.kind) $app.issuer.group $name -}}
{{- end -}}
{{- end -}}
