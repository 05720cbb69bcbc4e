{{/* The variable SPIFFE_ENDPOINT_SOCKET of injected pods; empty if they get files. */}}
{{- define "svid-csi.injected-socket" -}}
{{- if has (include "svid-csi.plans" . | fromJson).delivery (list "socket-dir" "workload-api") -}}
unix://{{ .Values.injection.mountPath | trimSuffix "/" }}/{{ .Values.injection.socketName }}
{{- end -}}
{{- end -}}

{{/* The mount and the variable of a container, in CEL. Called with a list: the kind of containers, the path in quotes, the socket. */}}
{{- define "svid-csi.injected" -}}
{{- $kind := index . 0 -}}
{{- $path := index . 1 -}}
volumeMounts: has(c.volumeMounts) && c.volumeMounts.exists(m, m.mountPath == {{ $path }}) ? [] : [
  Object.spec.{{ $kind }}.volumeMounts{name: "svid-csi", mountPath: {{ $path }}, readOnly: true}
]
{{- with index . 2 }},
env: has(c.env) && c.env.exists(e, e.name == "SPIFFE_ENDPOINT_SOCKET") ? [] : [
  Object.spec.{{ $kind }}.env{name: "SPIFFE_ENDPOINT_SOCKET", value: {{ . | toJson }}}
]
{{- end }}
{{- end -}}
