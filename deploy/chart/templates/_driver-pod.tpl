{{/* The driver's pod: the template of the DaemonSet, or the whole static pod. */}}
{{- define "svid-csi.driver-pod" -}}
{{- $values := .Values -}}
{{- $image := dict "root" . "own" $values.driverImage "component" "driver" -}}
{{- $tolerations := concat $values.app.driver.tolerations $values.tolerations | uniq -}}
{{- $affinity := merge (deepCopy ($values.affinity | default dict)) ($values.app.driver.affinity | default dict) -}}
{{- /* During a drain, a node needs the driver until its last pod with a volume has terminated. */ -}}
{{- $annotations := dict "cluster-autoscaler.kubernetes.io/enable-ds-eviction" "false" "kubectl.kubernetes.io/default-container" "driver" -}}
metadata:
  labels:
    app: {{ include "svid-csi.name" . }}
    app.kubernetes.io/component: driver
    {{- include "svid-csi.labels" . | nindent 4 }}
  annotations: {{- merge (deepCopy $values.app.driver.podAnnotations) $annotations | toYaml | nindent 4 }}
spec:
  {{- if not $values.staticPod }}
  serviceAccountName: {{ include "svid-csi.name" . }}
  {{- end }}
  automountServiceAccountToken: {{ include "svid-csi.driver-needs-api" . | eq "yes" }}
  enableServiceLinks: false
  {{- if $values.app.driver.hostNetwork }}
  hostNetwork: true
  dnsPolicy: ClusterFirstWithHostNet
  {{- end }}
  priorityClassName: {{ coalesce $values.app.driver.priorityClassName $values.priorityClassName "system-node-critical" }}
  {{- with $values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    seccompProfile: {type: RuntimeDefault}
  containers:
    - name: driver
      image: {{ include "svid-csi.image" $image | quote }}
      imagePullPolicy: {{ (include "svid-csi.image-settings" $image | fromJson).pullPolicy }}
      # Explicit, because some configurations of the image have an entry point that selects a profile.
      command: [/bin/svid-csi]
      args: {{- include "svid-csi.driver-args" . | nindent 8 }}
      env:
        - name: NODE_NAME
          valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
      ports:
        - {name: metrics, containerPort: {{ $values.app.driver.livenessProbe.port }}, protocol: TCP}
      livenessProbe:
        httpGet: {path: /livez, port: metrics}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /readyz, port: metrics}
        periodSeconds: 5
        timeoutSeconds: 5
      securityContext:
        # Only mounts of privileged containers reach the host. The driver drops all capabilities it does not need.
        privileged: true
        capabilities: {drop: [ALL], add: [SYS_ADMIN, DAC_OVERRIDE, FOWNER, CHOWN, LINUX_IMMUTABLE]}
        readOnlyRootFilesystem: true
        runAsUser: 0
        runAsGroup: 0
      {{- with $values.app.driver.resources }}
      resources: {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts: {{- include "svid-csi.driver-mounts" . | nindent 8 }}
  volumes: {{- include "svid-csi.driver-volumes" . | nindent 4 }}
{{- end -}}
