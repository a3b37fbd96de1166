{{/* The names' common part: the release's name, which mostly is the chart's. */}}
{{- define "imagewright.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "imagewright.operator" -}}
{{ include "imagewright.fullname" . }}-operator
{{- end -}}

{{- define "imagewright.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "imagewright.operator" .) }}
{{- else -}}
{{ required "serviceAccount.name says which one to use when serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end -}}
{{- end -}}

{{/* "true" or nothing. Unset, it is on where several operators are asked for. */}}
{{- define "imagewright.leaderElection" -}}
{{- if kindIs "bool" .Values.leaderElection.enabled -}}
{{- if .Values.leaderElection.enabled -}}true{{- end -}}
{{- else if gt (int64 .Values.replicas) 1 -}}true{{- end -}}
{{- end -}}

{{- define "imagewright.commonLabels" -}}
app.kubernetes.io/name: imagewright
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "imagewright.labels" -}}
{{ include "imagewright.commonLabels" . }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "imagewright.selector" -}}
app.kubernetes.io/name: imagewright
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{/* An image's reference; its argument is a list of the image and the tag that holds when it names none. */}}
{{- define "imagewright.image" -}}
{{- $image := index . 0 -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default (index . 1) }}
{{- end -}}
{{- end -}}

{{/* What the operator may do in a namespace that it serves. */}}
{{- define "imagewright.rules" -}}
- apiGroups: [imagewright.dev]
  resources: [imagebuilds]
  verbs: [get, list, watch]
- apiGroups: [imagewright.dev]
  resources: [imagebuilds/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, create, delete]
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
- apiGroups: [""]
  resources: [events]
  verbs: [list, create]
{{- end -}}

{{/* The settings that list what ImageBuilds may ask for, as far as values are given: a dictionary by variable, in YAML. */}}
{{- define "imagewright.allowed" -}}
{{- range $name, $value := dict
      "IMAGEWRIGHT_ALLOWED_LABELS" .Values.settings.allowedLabels
      "IMAGEWRIGHT_ALLOWED_ANNOTATIONS" .Values.settings.allowedAnnotations
      "IMAGEWRIGHT_ALLOWED_ENV" .Values.settings.allowedEnv
      "IMAGEWRIGHT_ALLOWED_TOLERATIONS" .Values.settings.allowedTolerations
      "IMAGEWRIGHT_ALLOWED_NODE_SELECTORS" .Values.settings.allowedNodeSelectors
      "IMAGEWRIGHT_ALLOWED_PRIORITY_CLASSES" .Values.settings.allowedPriorityClasses
      "IMAGEWRIGHT_ALLOWED_RUNTIME_CLASSES" .Values.settings.allowedRuntimeClasses
      "IMAGEWRIGHT_ALLOWED_LOGIN_SECRETS" .Values.settings.allowedLoginSecrets
      "IMAGEWRIGHT_ALLOWED_BUILD_SECRETS" .Values.settings.allowedBuildSecrets }}
{{- if not (kindIs "invalid" $value) }}
{{ $name }}: {{ join "," $value | default "none" | quote }}
{{- end }}
{{- end }}
{{- if kindIs "bool" .Values.settings.allowHostUsers }}
IMAGEWRIGHT_ALLOW_HOST_USERS: {{ .Values.settings.allowHostUsers | quote }}
{{- end }}
{{- end -}}
