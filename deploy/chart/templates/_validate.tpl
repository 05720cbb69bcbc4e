{{/* Checks that values.schema.json cannot explain in a sentence: reports all mistakes together, each with what to write. */}}
{{- define "svid-csi.validate" -}}
{{- if not (hasKey .Values "alsoServe") -}}
{{- fail "\nThe values of this chart are missing: upgrade with --reset-then-reuse-values in place of --reuse-values." -}}
{{- end -}}
{{- $mistakes := "" -}}
{{- range list "source" "images" "broker" "agent" "cert-manager" "minted" "approver" "node" "pods" -}}
{{- $mistakes = print $mistakes (include (printf "svid-csi.validate-%s" .) $) -}}
{{- end -}}
{{- with trim $mistakes -}}
{{- fail (printf "\n%s" (regexReplaceAll "\n\\s*" . "\n")) -}}
{{- end -}}
{{- end -}}

{{- define "svid-csi.validate-source" -}}
{{- $source := .Values.source -}}
{{- $delivery := .Values.delivery -}}
{{- if and (eq $source "socket") (has $delivery (list "files" "workload-api")) }}
delivery: {{ $delivery }} needs an identity, and with source socket the driver has none: write delivery: socket-dir, or source: broker.
{{- end }}
{{- if and (ne $source "socket") (eq $delivery "socket-dir") }}
delivery: socket-dir mounts an agent's socket, and source {{ $source }} has none: write delivery: files or delivery: workload-api.
{{- end }}
{{- if and .Values.alsoServe (eq .Values.alsoServe .Values.app.name) }}
alsoServe: {{ .Values.alsoServe }} is app.name already: write the other driver name, or leave alsoServe empty.
{{- end }}
{{- if not (regexMatch "^([a-z0-9]([a-z0-9-]*[a-z0-9])?)(\\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$" .Values.app.name) }}
app.name: {{ .Values.app.name | quote }} cannot name a CSIDriver: write lower case letters, digits, '-' and '.', such as csi.spiffe.io.
{{- end }}
{{- end -}}

{{/* Values for csi-driver-spiffe's images, which select an image that does not exist, or one with other flags. */}}
{{- define "svid-csi.validate-images" -}}
{{- $shared := .Values.image | default dict -}}
{{- $mistakes := list -}}
{{- $digests := list -}}
{{- range $component := list "driver" "approver" -}}
{{- if or (eq $component "driver") (include "svid-csi.has-approver" $) -}}
{{- $key := printf "%sImage" $component -}}
{{- $image := include "svid-csi.image-settings" (dict "root" $ "own" (get $.Values $key) "component" $component) | fromJson -}}
{{- $repository := include "svid-csi.image-repository" (dict "root" $ "image" $image) -}}
{{- $tag := $image.tag | default "" -}}
{{- $isUsual := eq $repository "svid-csi/svid-csi" -}}
{{- $isNamedLikeTheirs := and (regexMatch "/cert-manager-csi-driver-spiffe(-approver)?$" $repository) (not (include "svid-csi.is-predecessors-image" $repository)) -}}
{{- if and (or $isUsual $isNamedLikeTheirs) (regexMatch "^v0\\.[0-9]+\\.[0-9]+$" $tag) (ne $tag (printf "v%s" $.Chart.AppVersion)) -}}
{{- $mistakes = append $mistakes (printf "%s.tag: %s is a version of csi-driver-spiffe, and %s is to be an image of svid-csi: leave out what selected csi-driver-spiffe's images, or write the name and the tag of your own." (empty $shared.tag | ternary $key "image") $tag $repository) -}}
{{- end -}}
{{- if $isUsual }}{{ $digests = append $digests $image.digest | compact | uniq }}{{ end -}}
{{- end -}}
{{- end -}}
{{- if gt (len $digests) 1 -}}
{{- $mistakes = append $mistakes (printf "%s.digest: driver and approver have two digests, but svid-csi/svid-csi is one image: leave out the digests of csi-driver-spiffe's images, or write one in image.digest." (empty $shared.digest | ternary "driverImage" "image")) -}}
{{- end -}}
{{- range uniq $mistakes }}
{{ . }}
{{- end }}
{{- end -}}

{{- define "svid-csi.validate-broker" -}}
{{- if (include "svid-csi.plans" . | fromJson).broker }}
{{- with .Values.broker }}
{{- if not (or .socket .address) }}
source: broker needs the agent's Broker API: write broker.socket, such as /run/spire/broker/api.sock, or broker.address.
{{- end }}
{{- if and .socket .address }}
broker: the driver uses one Broker API: write broker.socket or broker.address, not both.
{{- end }}
{{- if and .socket (not (regexMatch "^/.+/[^/]+$" .socket)) }}
broker.socket: {{ .socket | quote }} is not the path of a socket on the node: write it like /run/spire/broker/api.sock.
{{- end }}
{{- if and .address (not (regexMatch ":[0-9]+$" .address)) }}
broker.address: {{ .address | quote }} has no port: write it like 10.0.0.1:8443.
{{- end }}
{{- if and (regexMatch "^(127\\.|\\[::1\\])" .address) (not $.Values.app.driver.hostNetwork) }}
broker.address: {{ .address }} is the node's own address, which the driver's pod cannot reach: write app.driver.hostNetwork: true, or broker.socket.
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "svid-csi.validate-agent" -}}
{{- $plans := include "svid-csi.plans" . | fromJson -}}
{{- $dir := .Values.agent.socketDir -}}
{{- if or $plans.socket $plans.broker }}
{{- if not (hasPrefix "/" $dir) }}
agent.socketDir: {{ $dir | quote }} is not a folder on the node: write the agent's, such as /run/spire/agent-sockets.
{{- else if hasSuffix ".sock" $dir }}
agent.socketDir: {{ $dir }} is the socket: write its folder, {{ dir $dir }}.
{{- else if and (eq .Values.agent.mount "parent") (lt (len (splitList "/" (clean $dir))) 4) }}
agent.socketDir: {{ $dir }} lies in {{ dir $dir }}, all of which the driver would mount: write agent.mount: directory, or move the socket to a folder like /run/spire/agent-sockets.
{{- end }}
{{- end }}
{{- end -}}

{{- define "svid-csi.validate-cert-manager" -}}
{{- $plans := include "svid-csi.plans" . | fromJson -}}
{{- $mode := include "svid-csi.request-mode" . -}}
{{- $bundle := .Values.trustBundle -}}
{{- if and (eq .Values.requestMode "pod") .Values.app.driver.useOwnServiceAccount }}
requestMode: pod contradicts app.driver.useOwnServiceAccount: true: leave one of them out.
{{- end }}
{{- if and $bundle (not (regexMatch "^(configmap:[^/]+/[^/]+/[^/]+|clustertrustbundle:.+)$" $bundle)) }}
trustBundle: {{ $bundle | quote }} does not name an object: write configmap:NAMESPACE/NAME/KEY or clustertrustbundle:NAME.
{{- end }}
{{- if and $bundle .Values.app.driver.sourceCABundle }}
trustBundle: the driver uses one trust bundle: write trustBundle or app.driver.sourceCABundle, not both.
{{- end }}
{{- if and (has "cert-manager:workload-api" $plans.all) (not (or $bundle .Values.app.driver.sourceCABundle)) }}
trustBundle: the plan cert-manager:workload-api needs a trust bundle to deliver to pods: write trustBundle: configmap:NAMESPACE/NAME/KEY, clustertrustbundle:NAME, or app.driver.sourceCABundle.
{{- end }}
{{- $version := .Capabilities.KubeVersion }}
{{- if and (eq (toString .Values.serviceAccountTokenInSecrets) "true") (semverCompare "<1.35.0-0" $version.Version) }}
serviceAccountTokenInSecrets: Kubernetes {{ $version.Major }}.{{ $version.Minor }} does not support true: write auto, which is true for 1.35 and later, or false.
{{- end }}
{{- if and (eq $mode "node-bound") (gt (len $plans.certManagerDrivers) 1) }}
requestMode: node-bound supports one driver name, but {{ join " and " $plans.certManagerDrivers }} both use cert-manager: remove the cert-manager plans from allowedPlans, or install a release for each name.
{{- end }}
{{- end -}}

{{- define "svid-csi.validate-minted" -}}
{{- $plans := include "svid-csi.plans" . | fromJson -}}
{{- $domain := .Values.app.trustDomain -}}
{{- $duration := .Values.app.certificateRequestDuration -}}
{{- $names := .Values.app.driver.volumeFileName -}}
{{- if or $plans.certManager $plans.localCA }}
{{- if hasPrefix "spiffe://" $domain }}
app.trustDomain: {{ $domain }} is a SPIFFE ID: write {{ trimPrefix "spiffe://" $domain | splitList "/" | first }}.
{{- else if and (regexMatch "[A-Z]" $domain) (regexMatch "^[A-Za-z0-9._-]+$" $domain) }}
app.trustDomain: {{ $domain }} has upper case letters, which a SPIFFE ID must not have: write {{ lower $domain }}.
{{- else if not (regexMatch "^[a-z0-9._-]{1,255}$" $domain) }}
app.trustDomain: {{ $domain | quote }} is not a trust domain: write a name like example.org, of lower case letters, digits, '.', '-' and '_'.
{{- end }}
{{- if not (regexMatch "^([0-9]+(\\.[0-9]+)?(ns|us|ms|s|m|h))+$" $duration) }}
app.certificateRequestDuration: {{ $duration | quote }} is not a duration: write it like 30m or 1h30m.
{{- end }}
{{- end }}
{{- if lt (len (list $names.cert $names.key $names.ca | uniq)) 3 }}
app.driver.volumeFileName: cert, key and ca need different names: write three, such as tls.crt, tls.key and ca.crt.
{{- end }}
{{- end -}}

{{- define "svid-csi.validate-approver" -}}
{{- with .Values.app.approver }}
{{- if not .leaderElection.enabled }}
app.approver.leaderElection.enabled: without leader election {{ max 2 .replicaCount }} approvers could decide at the same time, such as during an update: write true, or leave it out.
{{- end }}
{{- if eq (int .metrics.port) (int .readinessProbe.port) }}
app.approver.metrics.port: {{ .metrics.port }} is also the port of app.approver.readinessProbe: write another port, such as 9402.
{{- end }}
{{- end }}
{{- end -}}

{{- define "svid-csi.validate-node" -}}
{{- $plans := include "svid-csi.plans" . | fromJson -}}
{{- range $key, $path := dict "kubeletDir" .Values.kubeletDir "app.driver.csiDataDir" .Values.app.driver.csiDataDir "localCA.dir" .Values.localCA.dir }}
{{- if and $path (not (hasPrefix "/" $path)) }}
{{ $key }}: {{ $path | quote }} is not a folder on the node: write a path that begins with /.
{{- end }}
{{- end }}
{{- range compact (list .Values.app.name .Values.alsoServe) }}
{{- $socket := printf "%s/csi.sock" (include "svid-csi.plugin-dir" (dict "root" $ "name" .)) }}
{{- if gt (len $socket) 107 }}
kubeletDir: the driver's socket {{ $socket }} has {{ len $socket }} bytes, but a socket's path has at most 107: write a shorter app.name, or link kubeletDir to a shorter path.
{{- end }}
{{- end }}
{{- if .Values.staticPod }}
{{- if $plans.certManager }}
staticPod: a static pod has no service account, and source cert-manager needs one: write staticPod: false, or another source.
{{- end }}
{{- if .Values.startupTaint.enabled }}
staticPod: a static pod has no service account, and the startup taint needs one: write startupTaint.enabled: false.
{{- end }}
{{- if and $plans.localCA .Values.localCA.publishRoots }}
staticPod: a static pod has no service account, and the roots of all nodes need one: write localCA.publishRoots: false; pods of different nodes then do not trust each other.
{{- end }}
{{- end }}
{{- end -}}

{{- define "svid-csi.validate-pods" -}}
{{- $version := .Capabilities.KubeVersion -}}
{{- if and .Values.injection.enabled (semverCompare "<1.36.0-0" $version.Version) }}
injection.enabled: Kubernetes {{ $version.Major }}.{{ $version.Minor }} has no MutatingAdmissionPolicy: write false, or upgrade to 1.36.
{{- end }}
{{- if and .Values.usage.enabled (not .Values.usage.namespaceLabels) (not .Values.usage.attributes) }}
usage.enabled: nothing is refused: write usage.namespaceLabels or usage.attributes.
{{- end }}
{{- end -}}
