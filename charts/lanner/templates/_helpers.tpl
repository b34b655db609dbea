{{- define "lanner.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{/* Short enough for every suffix. */}}
{{- define "lanner.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "lanner.name" . -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "lanner.selector" -}}
app.kubernetes.io/name: {{ include "lanner.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: host
{{- end }}

{{/* Of every object. */}}
{{- define "lanner.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: {{ include "lanner.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: lanner
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Of a scan's Jobs and pods: the host labels them so. */}}
{{- define "lanner.scanLabels" -}}
app.kubernetes.io/managed-by: lanner
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "lanner.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "lanner.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{- define "lanner.image" -}}
{{- $repository := required "image.repository must be set: no image of Lanner is published yet" .Values.image.repository -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end }}

{{- define "lanner.doorService" -}}{{ include "lanner.fullname" . }}-door{{- end }}
{{- define "lanner.intakeService" -}}{{ include "lanner.fullname" . }}-intake{{- end }}

{{- define "lanner.doorURL" -}}
{{- if .Values.door.url -}}
{{- .Values.door.url -}}
{{- else -}}
{{- $host := default (printf "%s.%s.svc" (include "lanner.doorService" .) .Release.Namespace) .Values.door.clusterIP -}}
{{- if contains ":" $host }}{{ $host = printf "[%s]" $host }}{{ end -}}
{{- printf "https://%s:%d" $host (int .Values.ports.door) -}}
{{- end -}}
{{- end }}

{{/* Whether scan pods are given an address and have nothing to ask DNS for: "true" or nothing. */}}
{{- define "lanner.doorIsAddress" -}}
{{- $host := regexReplaceAll "^https://(.*):[0-9]+$" (include "lanner.doorURL" .) "${1}" -}}
{{- if or (regexMatch "^[0-9.]+$" $host) (hasPrefix "[" $host) }}true{{ end -}}
{{- end }}

{{/* Whether scan pods have to find a bucket by its name: "true" or nothing. */}}
{{- define "lanner.bucketIsNamed" -}}
{{- with .Values.projects.bucket -}}
{{- if and .url (not (regexMatch "^https?://([0-9.]+|\\[[0-9a-fA-F:]+\\]):[0-9]+$" .endpoint)) }}true{{ end -}}
{{- end -}}
{{- end }}

{{- define "lanner.authSecret" -}}
{{- default (printf "%s-credentials" (include "lanner.fullname" .)) .Values.auth.existingSecret -}}
{{- end }}
{{- define "lanner.doorSecret" -}}
{{- default (printf "%s-door" (include "lanner.fullname" .)) .Values.door.existingSecret -}}
{{- end }}
{{- define "lanner.intakeSecret" -}}
{{- default (printf "%s-intake" (include "lanner.fullname" .)) .Values.intake.existingSecret -}}
{{- end }}

{{- define "lanner.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .Values.userID }}
runAsGroup: {{ .Values.userID }}
fsGroup: {{ .Values.userID }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "lanner.containerSecurity" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end }}
