{{- define "modelexperiment.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* 63 characters: the length of a label's value, and of a Service's name. */}}
{{- define "modelexperiment.fullname" -}}
{{- $name := include "modelexperiment.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "modelexperiment.selectorLabels" -}}
app.kubernetes.io/name: {{ include "modelexperiment.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Labels of one's own never stand in for the chart's. */}}
{{- define "modelexperiment.labels" -}}
{{- $own := include "modelexperiment.ownLabels" . | fromYaml }}
{{- toYaml (merge (dict) $own .Values.commonLabels) }}
{{- end }}

{{- define "modelexperiment.ownLabels" -}}
{{ include "modelexperiment.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "modelexperiment.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "modelexperiment.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "modelexperiment.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{/* The operator as the subject of a binding. */}}
{{- define "modelexperiment.subjects" -}}
- kind: ServiceAccount
  name: {{ include "modelexperiment.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}

{{/* What the operator may do in a namespace that it serves, and no more than it does. */}}
{{- define "modelexperiment.rules" -}}
# Finalizers are set by a patch.
- apiGroups: [experiments.mlops.dev]
  resources: [modelexperiments]
  verbs: [get, list, watch, patch]
# The status is replaced as a whole, under its resourceVersion.
- apiGroups: [experiments.mlops.dev]
  resources: [modelexperiments/status]
  verbs: [update]
# The destinations of one http route, or of one rule, are patched; routes are never made nor deleted.
- apiGroups: [networking.istio.io]
  resources: [virtualservices]
  verbs: [get, list, watch, patch]
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: [get, list, watch, patch]
- apiGroups: [networking.istio.io]
  resources: [destinationrules]
  verbs: [list]
# What keeps users on their version: made, put right and deleted for each experiment.
- apiGroups: [networking.istio.io]
  resources: [envoyfilters]
  verbs: [get, list, watch, create, patch, delete]
# Where a route stands in the proxies, whether these follow an EnvoyFilter at all, and whether the
# backends of an HTTPRoute exist.
- apiGroups: [networking.istio.io, gateway.networking.k8s.io]
  resources: [gateways]
  verbs: [get]
- apiGroups: [""]
  resources: [services, namespaces]
  verbs: [get]
# Whether each version has ready endpoints: only then it gets traffic.
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list]
- apiGroups: [networking.istio.io]
  resources: [serviceentries]
  verbs: [list]
# What is told again raises the count of the Event that is there.
- apiGroups: [""]
  resources: [events]
  verbs: [create, patch]
{{- with .Values.alerts.secretNames }}
# Addresses of alerts, by name, in the experiment's own namespace.
- apiGroups: [""]
  resources: [secrets]
  {{- if not (has "*" .) }}
  resourceNames: {{ toJson . }}
  {{- end }}
  verbs: [get]
{{- end }}
{{- end }}

{{- define "modelexperiment.alertLabels" -}}
{{- with .alertLabels }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{- define "modelexperiment.accessDirectory" -}}
/etc/modelexperiment/prometheus
{{- end }}

{{/* A file of prometheus.access, given as (access, field): a key of its Secret, or a path. */}}
{{- define "modelexperiment.accessFile" -}}
{{- $access := first . }}
{{- $field := last . }}
{{- $file := get $access $field }}
{{- if or (not $file) (hasPrefix "/" $file) }}
{{- $file }}
{{- else if $access.secret }}
{{- printf "%s/%s" (include "modelexperiment.accessDirectory" .) $file }}
{{- else }}
{{- fail (printf "prometheus.access.%s: %s is a key, and prometheus.access.secret names no Secret" $field $file) }}
{{- end }}
{{- end }}

{{/* 63 characters with what is added: the comparer's pods are none of the operator's. */}}
{{- define "modelexperiment.comparer.fullname" -}}
{{- printf "%s-comparer" (include "modelexperiment.fullname" . | trunc 54 | trimSuffix "-") }}
{{- end }}

{{- define "modelexperiment.comparer.selectorLabels" -}}
app.kubernetes.io/name: {{ include "modelexperiment.name" . | trunc 54 | trimSuffix "-" }}-comparer
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "modelexperiment.comparer.labels" -}}
{{- $own := merge (dict) (include "modelexperiment.comparer.selectorLabels" . | fromYaml) (include "modelexperiment.ownLabels" . | fromYaml) }}
{{- toYaml (merge (dict) $own .Values.commonLabels) }}
{{- end }}
