{{/*
An image reference. One image serves driver and approver; csi-driver-spiffe's settings for each of them (driverImage,
approverImage, the older image.*, imageRegistry, imageNamespace) work here too.
Called with a dict of root, own (driverImage or approverImage) and component (driver or approver).
*/}}
{{- define "svid-csi.image" -}}
{{- $image := include "svid-csi.image-settings" . | fromJson -}}
{{- $repository := include "svid-csi.image-repository" (dict "root" .root "image" $image) -}}
{{- if include "svid-csi.is-predecessors-image" $repository -}}
{{- $repository = "svid-csi/svid-csi" -}}
{{- $image = dict -}}
{{- end -}}
{{- $reference := $repository -}}
{{- with $image.tag }}{{ $reference = printf "%s:%s" $reference . }}{{ end -}}
{{- with $image.digest }}{{ $reference = printf "%s@%s" $reference . }}{{ end -}}
{{- if eq $reference $repository }}{{ $reference = printf "%s:%s" $repository .root.Chart.AppVersion }}{{ end -}}
{{- $reference -}}
{{- end -}}

{{/* The settings of an image as JSON: image.* takes precedence over driverImage.* and approverImage.*. */}}
{{- define "svid-csi.image-settings" -}}
{{- $image := .root.Values.image | default dict -}}
{{- $shared := dict -}}
{{- range $key := list "repository" "digest" -}}
{{- $value := get $image $key -}}
{{- if kindIs "map" $value }}{{ $value = get $value $.component }}{{ end -}}
{{- $_ := set $shared $key $value -}}
{{- end -}}
{{- dict
  "registry" ($image.registry | default .own.registry)
  "repository" ($shared.repository | default .own.repository)
  "name" .own.name
  "tag" ($image.tag | default .own.tag)
  "digest" ($shared.digest | default .own.digest)
  "pullPolicy" ($image.pullPolicy | default .own.pullPolicy)
  | toJson -}}
{{- end -}}

{{- define "svid-csi.image-repository" -}}
{{- $values := .root.Values -}}
{{- $parts := list .image.registry -}}
{{- if .image.repository -}}
{{- $parts = append $parts .image.repository -}}
{{- else -}}
{{- $parts = concat $parts (list $values.imageRegistry $values.imageNamespace .image.name) -}}
{{- end -}}
{{- $parts | compact | join "/" -}}
{{- end -}}

{{/* Whether a repository is one of csi-driver-spiffe's, in values copied from its chart. */}}
{{- define "svid-csi.is-predecessors-image" -}}
{{- if hasPrefix "quay.io/jetstack/" . }}yes{{ end -}}
{{- end -}}
