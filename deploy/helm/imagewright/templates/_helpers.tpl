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
