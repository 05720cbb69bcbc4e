{{/* The agent's and the broker's folders, on the node and in the driver's container, as JSON. */}}
{{- define "svid-csi.agent" -}}
{{- $dir := .Values.agent.socketDir | clean -}}
{{- $parent := eq .Values.agent.mount "parent" -}}
{{- $host := $parent | ternary (dir $dir) $dir -}}
{{- $container := $parent | ternary (printf "/agent/%s" (base $dir)) "/agent" -}}
{{- $brokerDir := dir (.Values.broker.socket | default "/" | clean) -}}
{{- $sameFolder := and $parent (hasPrefix (printf "%s/" $host) $brokerDir) -}}
{{- $brokerHost := gt (len (splitList "/" (dir $brokerDir))) 2 | ternary (dir $brokerDir) $brokerDir -}}
{{- $brokerIn := trimPrefix ($sameFolder | ternary $host $brokerHost) (.Values.broker.socket | default "/" | clean) -}}
{{- dict
  "host" $host "container" $container
  "brokerHost" ($sameFolder | ternary "" $brokerHost)
  "brokerSocket" (printf "%s%s" ($sameFolder | ternary "/agent" "/broker") $brokerIn)
  | toJson -}}
{{- end -}}

{{/* The folder of a driver name's CSI socket on the node. */}}
{{- define "svid-csi.plugin-dir" -}}
{{- printf "%s/plugins/%s" (.root.Values.kubeletDir | trimSuffix "/") .name -}}
{{- end -}}

{{- define "svid-csi.driver-args" -}}
{{- $values := .Values -}}
{{- $plans := include "svid-csi.plans" . | fromJson -}}
{{- $agent := include "svid-csi.agent" . | fromJson -}}
- driver
- --driver-name={{ $values.app.name }}
- --source={{ $values.source }}
- --delivery={{ $plans.delivery }}
{{- range $values.allowedPlans }}
- --allow-plan={{ . }}
{{- end }}
- --node-id=$(NODE_NAME)
- --endpoint=unix:///plugin/csi.sock
- --kubelet-dir={{ $values.kubeletDir | trimSuffix "/" }}
- --kubelet-registration-dir=/registration
- --kubelet-registration-path={{ include "svid-csi.plugin-dir" (dict "root" . "name" $values.app.name) }}/csi.sock
{{- with $values.alsoServe }}
{{- $path := printf "%s/csi.sock" (include "svid-csi.plugin-dir" (dict "root" $ "name" .)) }}
- --also-profile={{ . }}:csi-socket=/also-plugin/csi.sock,registration-path={{ $path }}
{{- end }}
- --data-root={{ empty $values.app.driver.csiDataDir | ternary "/plugin/data" "/data" }}
{{- with $values.dataSizeLimit }}
- --data-size-limit={{ . }}
{{- end }}
- --metrics-address={{ include "svid-csi.driver-address" . }}
{{- if $values.allowMissingReadOnly }}
- --allow-missing-read-only
{{- end }}
{{- with $values.app.driver.volumeFileName }}
- --file-name-certificate={{ .cert }}
- --file-name-key={{ .key }}
- --file-name-ca={{ .ca }}
{{- end }}
{{- if or $plans.socket $plans.broker }}
- --workload-api-socket-dir={{ $agent.container }}
{{- end }}
{{- if $plans.broker }}
{{- if $values.broker.socket }}
- --broker-socket={{ $agent.brokerSocket }}
{{- else }}
- --broker-address={{ $values.broker.address }}
{{- end }}
{{- with $values.broker.serverID }}
- --broker-server-id={{ . }}
{{- end }}
{{- end }}
{{- if or $plans.certManager $plans.localCA }}
- --trust-domain={{ $values.app.trustDomain }}
- --certificate-request-duration={{ $values.app.certificateRequestDuration }}
{{- with $values.keyType }}
- --key-type={{ . }}
{{- end }}
{{- end }}
{{- if $plans.certManager }}
- --request-mode={{ include "svid-csi.request-mode" . }}
{{- include "svid-csi.issuer-args" . }}
{{- with $values.app.extraCertificateRequestAnnotations }}
- {{ printf "--extra-certificate-request-annotations=%s" . | quote }}
{{- end }}
{{- with $values.app.driver.sourceCABundle }}
- --source-ca-bundle={{ . }}
# This value is csi-driver-spiffe's, which does not check the chain. Flags in extraArgs win.
- --require-chain=false
{{- end }}
{{- with $values.trustBundle }}
- --trust-bundle={{ . }}
{{- end }}
{{- end }}
{{- if $plans.localCA }}
{{- if $values.localCA.publishRoots }}
- --local-ca-roots={{ .Release.Namespace }}/{{ include "svid-csi.name" . }}-roots
{{- end }}
{{- if $values.localCA.dir }}
- --local-ca-dir=/local-ca
{{- end }}
{{- with $values.localCA.jwtSVIDTTL }}
- --jwt-svid-ttl={{ . }}
{{- end }}
{{- end }}
{{- if $values.startupTaint.enabled }}
- --startup-taint={{ $values.startupTaint.key }}
{{- end }}
- --log-level={{ $values.app.logLevel }}
- --log-format={{ $values.logFormat }}
{{- with $values.app.driver.extraArgs }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The issuer flags of driver and approver. */}}
{{- define "svid-csi.issuer-args" }}
- --issuer-name={{ .Values.app.issuer.name }}
- --issuer-kind={{ .Values.app.issuer.kind }}
- --issuer-group={{ .Values.app.issuer.group }}
{{- with .Values.app.runtimeIssuanceConfigMap }}
- --runtime-issuance-config-map-name={{ . }}
- --runtime-issuance-config-map-namespace={{ $.Release.Namespace }}
{{- end }}
{{- end -}}

{{/* The address of metrics and probes. */}}
{{- define "svid-csi.driver-address" -}}
{{- $address := .Values.app.driver.bindAddress -}}
{{- contains ":" $address | ternary (printf "[%s]" $address) $address }}:{{ .Values.app.driver.livenessProbe.port }}
{{- end -}}

{{- define "svid-csi.driver-mounts" -}}
{{- $plans := include "svid-csi.plans" . | fromJson -}}
{{- $agent := include "svid-csi.agent" . | fromJson -}}
{{- $kubelet := .Values.kubeletDir | trimSuffix "/" -}}
# The CSI socket; volume data below it survives the container only if mounts there reach the host.
- {name: plugin, mountPath: /plugin, mountPropagation: Bidirectional}
{{- if .Values.alsoServe }}
- {name: also-plugin, mountPath: /also-plugin}
{{- end }}
- {name: registration, mountPath: /registration}
- {name: pods, mountPath: {{ $kubelet }}/pods, mountPropagation: Bidirectional}
{{- if .Values.app.driver.csiDataDir }}
- {name: data, mountPath: /data, mountPropagation: Bidirectional}
{{- end }}
{{- if or $plans.socket $plans.broker }}
- {name: agent, mountPath: /agent, mountPropagation: HostToContainer}
{{- end }}
{{- if and $plans.broker .Values.broker.socket $agent.brokerHost }}
- {name: broker, mountPath: /broker, mountPropagation: HostToContainer, readOnly: true}
{{- end }}
{{- if and $plans.localCA .Values.localCA.dir }}
- {name: local-ca, mountPath: /local-ca}
{{- end }}
{{- with .Values.app.driver.volumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "svid-csi.driver-volumes" -}}
{{- $plans := include "svid-csi.plans" . | fromJson -}}
{{- $agent := include "svid-csi.agent" . | fromJson -}}
{{- $kubelet := .Values.kubeletDir | trimSuffix "/" -}}
- name: plugin
  hostPath: {path: {{ include "svid-csi.plugin-dir" (dict "root" . "name" .Values.app.name) }}, type: DirectoryOrCreate}
{{- with .Values.alsoServe }}
- name: also-plugin
  hostPath: {path: {{ include "svid-csi.plugin-dir" (dict "root" $ "name" .) }}, type: DirectoryOrCreate}
{{- end }}
- name: registration
  hostPath: {path: {{ $kubelet }}/plugins_registry, type: Directory}
- name: pods
  hostPath: {path: {{ $kubelet }}/pods, type: Directory}
{{- with .Values.app.driver.csiDataDir }}
- name: data
  hostPath: {path: {{ . }}, type: DirectoryOrCreate}
{{- end }}
{{- if or $plans.socket $plans.broker }}
# {{ eq .Values.agent.mount "parent" | ternary "The folder above the agent's, which may be deleted and re-created." "Only the agent's folder." }}
- name: agent
  hostPath: {path: {{ $agent.host }}, type: DirectoryOrCreate}
{{- end }}
{{- if and $plans.broker .Values.broker.socket $agent.brokerHost }}
- name: broker
  hostPath: {path: {{ $agent.brokerHost }}, type: DirectoryOrCreate}
{{- end }}
{{- if and $plans.localCA .Values.localCA.dir }}
- name: local-ca
  hostPath: {path: {{ .Values.localCA.dir }}, type: DirectoryOrCreate}
{{- end }}
{{- with .Values.app.driver.volumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
