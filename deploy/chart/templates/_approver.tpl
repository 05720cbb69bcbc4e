{{- define "svid-csi.approver-args" -}}
{{- $mode := include "svid-csi.request-mode" . -}}
{{- $approver := .Values.app.approver -}}
- approver
- --csi-driver-name={{ (include "svid-csi.plans" . | fromJson).certManagerDrivers | first }}
- --trust-domain={{ .Values.app.trustDomain }}
- --certificate-request-duration={{ .Values.app.certificateRequestDuration }}
{{- include "svid-csi.issuer-args" . }}
- --request-mode={{ $mode }}
{{- if ne $mode "pod" }}
- --driver-service-account={{ include "svid-csi.driver-account" . }}
{{- end }}
{{- with $approver.allowedKeyTypes }}
- --allowed-key-types={{ join "," . }}
{{- end }}
{{- if $approver.autoApproveNonSPIFFE }}
- --auto-approve-non-spiffe
{{- end }}
- --leader-election-namespace=$(POD_NAMESPACE)
- --metrics-bind-address=:{{ $approver.metrics.port }}
- --readiness-probe-bind-address=:{{ $approver.readinessProbe.port }}
- --log-level={{ .Values.app.logLevel }}
- --log-format={{ .Values.logFormat }}
{{- with $approver.extraArgs }}
{{ toYaml . }}
{{- end }}
{{- end -}}
