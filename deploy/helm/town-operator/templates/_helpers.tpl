{{/* The short name of the chart. */}}
{{- define "town-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The name of every object of the release: the name of the release, and the name of the chart if the first does not contain it. */}}
{{- define "town-operator.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{/*
The id of this installation. The operator appends a dot and 8 hex digits of the cluster to it, and writes the result
to the label gastown.dev/install. An id has at most 45 characters and no dot: a default that is longer, or has a dot,
keeps its first 36 characters, with '-' for each dot, and the first 8 hex digits of its SHA-256.
*/}}
{{- define "town-operator.installId" -}}
{{- if .Values.installId }}
{{- .Values.installId }}
{{- else }}
{{- $id := printf "%s-%s" .Release.Namespace .Release.Name }}
{{- if or (gt (len $id) 45) (contains "." $id) }}
{{- printf "%s-%s" (trunc 36 $id | replace "." "-") ($id | sha256sum | trunc 8) }}
{{- else }}
{{- $id }}
{{- end }}
{{- end }}
{{- end }}

{{- define "town-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "town-operator.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name is required with serviceAccount.create: false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "town-operator.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- define "town-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "town-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "town-operator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "town-operator.selectorLabels" . }}
app.kubernetes.io/component: controller
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: town-operator
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}
