{{/*
The plans, as JSON: `main` (the plan of app.name), `also` (that of alsoServe), `all` plans, for each source whether
any volume may request it, and `certManagerDrivers`, the driver names whose volumes cert-manager may serve.
*/}}
{{- define "svid-csi.plans" -}}
{{- $values := .Values -}}
{{- $delivery := $values.delivery | default (eq $values.source "socket" | ternary "socket-dir" "files") -}}
{{- $main := printf "%s:%s" $values.source $delivery -}}
{{- $also := "" -}}
{{- if eq $values.alsoServe "csi.spiffe.io" -}}
{{- $also = "socket:socket-dir" -}}
{{- else if $values.alsoServe -}}
{{- $also = eq $values.source "local-ca" | ternary "local-ca:files" "cert-manager:files" -}}
{{- end -}}
{{- $all := concat (list $main $also) $values.allowedPlans | compact | uniq -}}
{{- $sources := list -}}
{{- range $all }}{{ $sources = append $sources (splitList ":" . | first) }}{{ end -}}
{{- $drivers := list -}}
{{- range $name, $plan := dict $values.app.name $main $values.alsoServe $also -}}
{{- if or (hasPrefix "cert-manager:" $plan) (and $name (contains "cert-manager:" (join " " $values.allowedPlans))) -}}
{{- $drivers = append $drivers $name -}}
{{- end -}}
{{- end -}}
{{- dict
  "main" $main "also" $also "all" $all "delivery" $delivery
  "socket" (has "socket" $sources)
  "broker" (has "broker" $sources)
  "certManager" (has "cert-manager" $sources)
  "localCA" (has "local-ca" $sources)
  "certManagerDrivers" $drivers
  | toJson -}}
{{- end -}}

{{/* Who creates certificate requests: pod, own or node-bound. */}}
{{- define "svid-csi.request-mode" -}}
{{- .Values.requestMode | default (.Values.app.driver.useOwnServiceAccount | ternary "own" "pod") -}}
{{- end -}}

{{/* `yes` if the driver uses the API server. */}}
{{- define "svid-csi.driver-needs-api" -}}
{{- $plans := include "svid-csi.plans" . | fromJson -}}
{{- $roots := and $plans.localCA .Values.localCA.publishRoots -}}
{{- if and (not .Values.staticPod) (or $plans.certManager $plans.broker $roots .Values.startupTaint.enabled) }}yes{{ end -}}
{{- end -}}

{{/* `yes` if the driver's service account may use a SecurityContextConstraints object. */}}
{{- define "svid-csi.openshift" -}}
{{- $enabled := .Values.openshift.securityContextConstraint.enabled -}}
{{- $detected := and (eq (toString $enabled) "detect") (.Capabilities.APIVersions.Has "security.openshift.io/v1") -}}
{{- if or $detected (eq (toString $enabled) "true") }}yes{{ end -}}
{{- end -}}

{{/* `yes` if an approver is installed. */}}
{{- define "svid-csi.has-approver" -}}
{{- if and .Values.app.approver.enabled (include "svid-csi.plans" . | fromJson).certManager }}yes{{ end -}}
{{- end -}}
