{{/*
The prefix of all objects' names. With source cert-manager it is by default that of cert-manager/csi-driver-spiffe's chart, so
that an upgrade over a release of that chart finds its DaemonSet, its Deployment and their selectors, which
cannot be changed.
*/}}
{{- define "svid-csi.name" -}}
{{- $usual := eq .Values.source "cert-manager" | ternary "cert-manager-csi-driver-spiffe" "svid-csi" -}}
{{- .Values.nameOverride | default $usual | trunc 54 | trimSuffix "-" -}}
{{- end -}}

{{/* Labels of every object. */}}
{{- define "svid-csi.labels" -}}
app.kubernetes.io/name: {{ include "svid-csi.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The service account the driver runs as, as the API server writes it. */}}
{{- define "svid-csi.driver-account" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "svid-csi.name" . }}
{{- end -}}
