{{- /* The names of the release's objects begin so; with the longest suffix they stay below 63 letters. */ -}}
{{- define "cinemeter.name" -}}
{{- .Release.Name | trunc 20 | trimSuffix "-" -}}
{{- end }}

{{- define "cinemeter.labels" -}}
app.kubernetes.io/name: cinemeter
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{- /* The labels that find the pods of a component, and of one pool. */ -}}
{{- define "cinemeter.selector" -}}
app.kubernetes.io/name: cinemeter
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- with .pool }}
cinemeter.io/pool: {{ . }}
{{- end }}
{{- end }}

{{- define "cinemeter.image" -}}
{{- $image := index .root.Values.image .kind -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- /* A pod's template up to its containers: root, component, grace and optionally pool. */ -}}
{{- define "cinemeter.podHead" -}}
metadata:
  labels:
    {{- include "cinemeter.labels" (dict "root" .root) | nindent 4 }}
    {{- omit (include "cinemeter.selector" . | fromYaml) "app.kubernetes.io/name" "app.kubernetes.io/instance" | toYaml | nindent 4 }}
    {{- with .root.Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .root.Values.podAnnotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{- define "cinemeter.podSpec" -}}
automountServiceAccountToken: false
{{- /* A Service named `cinemeter` would set CINEMETER_PORT, which no process would accept. */}}
enableServiceLinks: false
{{- with .root.Values.serviceAccountName }}
serviceAccountName: {{ . }}
{{- end }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .grace }}
terminationGracePeriodSeconds: {{ . }}
{{- end }}
{{- with .place }}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{- define "cinemeter.security" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- /* "yes" in the pods that read the policy of moderation, and in those that run its classifier. */ -}}
{{- define "cinemeter.readsPolicy" -}}
{{- if and .root.Values.moderation.policy.secret (has .component (list "api" "scheduler" "worker")) }}yes{{ end -}}
{{- end }}

{{- define "cinemeter.runsClassifier" -}}
{{- if and .root.Values.moderation.classifier (has .component (list "api" "worker")) }}yes{{ end -}}
{{- end }}

{{- /* The environment of every container: root, component and optionally databaseKey. */ -}}
{{- define "cinemeter.env" -}}
- {name: CINEMETER_HOST, value: "0.0.0.0"}
- {name: CINEMETER_HOME, value: /var/lib/cinemeter}
- {name: CINEMETER_METRICS_PORT, value: "9100"}
{{- if .root.Values.catalogConfigMap }}
- {name: CINEMETER_CATALOG_DIR, value: /etc/cinemeter/catalog}
{{- end }}
{{- if .root.Values.signingKey.secret }}
- {name: CINEMETER_SIGNING_KEY, value: /etc/cinemeter/signing/{{ .root.Values.signingKey.key }}}
{{- end }}
{{- if include "cinemeter.readsPolicy" . }}
- {name: CINEMETER_MODERATION_POLICY, value: /etc/cinemeter/moderation/{{ .root.Values.moderation.policy.key }}}
{{- end }}
{{- range $name, $value := .root.Values.env }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- $secret := .root.Values.existingSecret }}
- name: CINEMETER_DATABASE_URL
  valueFrom: {secretKeyRef: {name: {{ $secret }}, key: {{ .databaseKey | default "database-url" }}}}
- name: CINEMETER_REDIS_URL
  valueFrom: {secretKeyRef: {name: {{ $secret }}, key: redis-url}}
- name: CINEMETER_SECRET
  valueFrom: {secretKeyRef: {name: {{ $secret }}, key: secret}}
- name: CINEMETER_S3_ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ $secret }}, key: s3-access-key, optional: true}}
- name: CINEMETER_S3_SECRET_KEY
  valueFrom: {secretKeyRef: {name: {{ $secret }}, key: s3-secret-key, optional: true}}
{{- end }}

{{- define "cinemeter.mounts" -}}
- {name: home, mountPath: /var/lib/cinemeter}
- {name: tmp, mountPath: /tmp}
{{- if .root.Values.catalogConfigMap }}
- {name: catalog, mountPath: /etc/cinemeter/catalog, readOnly: true}
{{- end }}
{{- if .root.Values.signingKey.secret }}
- {name: signing, mountPath: /etc/cinemeter/signing, readOnly: true}
{{- end }}
{{- if include "cinemeter.readsPolicy" . }}
- {name: moderation, mountPath: /etc/cinemeter/moderation, readOnly: true}
{{- end }}
{{- if include "cinemeter.runsClassifier" . }}
- {name: classifier, mountPath: /etc/cinemeter/classifier, readOnly: true}
{{- end }}
{{- end }}

{{- /* A volume that is only read: root, name, folder (one of claim, image, hostPath) and `of`, the value that names it. */ -}}
{{- define "cinemeter.folder" -}}
{{- if and .folder.image (semverCompare "<1.36-0" .root.Capabilities.KubeVersion.Version) }}
{{- fail (printf "%s.image needs Kubernetes 1.36 or newer" .of) }}
{{- end }}
{{- with .folder.claim }}
- {name: {{ $.name }}, persistentVolumeClaim: {claimName: {{ . }}, readOnly: true}}
{{- end }}
{{- with .folder.image }}
- {name: {{ $.name }}, image: {reference: {{ . | quote }}, pullPolicy: {{ $.root.Values.image.pullPolicy }}}}
{{- end }}
{{- with .folder.hostPath }}
- {name: {{ $.name }}, hostPath: {path: {{ . | quote }}, type: Directory}}
{{- end }}
{{- end }}

{{- /* The volumes of those mounts: root, component and optionally home, a size. */ -}}
{{- define "cinemeter.volumes" -}}
- name: home
  emptyDir:
    {{- if .home }}
    sizeLimit: {{ .home }}
    {{- else }} {}
    {{- end }}
- {name: tmp, emptyDir: {}}
{{- with .root.Values.catalogConfigMap }}
- {name: catalog, configMap: {name: {{ . }}}}
{{- end }}
{{- with .root.Values.signingKey.secret }}
- {name: signing, secret: {secretName: {{ . }}, defaultMode: 0440}}
{{- end }}
{{- if include "cinemeter.readsPolicy" . }}
- {name: moderation, secret: {secretName: {{ .root.Values.moderation.policy.secret }}, defaultMode: 0440}}
{{- end }}
{{- if include "cinemeter.runsClassifier" . }}
{{- include "cinemeter.folder" (dict "root" .root "name" "classifier" "folder" .root.Values.moderation.classifier "of" "moderation.classifier") }}
{{- end }}
{{- end }}

{{- /* Pods wait for the schema of their release, so that no order of installing matters: root and kind. */ -}}
{{- define "cinemeter.waitForSchema" -}}
- name: wait-for-schema
  image: {{ include "cinemeter.image" . }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  args: [migrate, --check, --wait, {{ .root.Values.schemaWaitSeconds | quote }}]
  env: {{- include "cinemeter.env" . | nindent 4 }}
  {{- include "cinemeter.security" . | nindent 2 }}
  volumeMounts: {{- include "cinemeter.mounts" . | nindent 4 }}
{{- end }}

{{- /* The metrics port answers /livez as soon as the process works, and not when its loop stands still. */ -}}
{{- define "cinemeter.liveness" -}}
startupProbe: {httpGet: {path: /livez, port: metrics}, periodSeconds: 10, timeoutSeconds: 10, failureThreshold: {{ .starts }}}
livenessProbe: {httpGet: {path: /livez, port: metrics}, periodSeconds: 30, timeoutSeconds: 10, failureThreshold: {{ .fails }}}
{{- end }}

{{- define "cinemeter.disruption" -}}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ .name }}
  labels: {{- include "cinemeter.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels: {{- include "cinemeter.selector" . | nindent 6 }}
{{- end }}
