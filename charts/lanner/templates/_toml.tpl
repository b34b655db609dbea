{{/* A value as TOML, on one line. Numbers come as floats from YAML; Lanner has whole ones only. */}}
{{- define "lanner.toml" -}}
{{- if kindIs "map" . -}}
{{- $pairs := list -}}
{{- range $key, $value := . -}}
{{- $pairs = append $pairs (printf "%s = %s" (toJson $key) (include "lanner.toml" $value)) -}}
{{- end -}}
{ {{ join ", " $pairs }} }
{{- else if kindIs "slice" . -}}
{{- $all := list -}}
{{- range . -}}{{- $all = append $all (include "lanner.toml" .) -}}{{- end -}}
[{{ join ", " $all }}]
{{- else if kindIs "string" . -}}
{{ toJson . }}
{{- else if kindIs "bool" . -}}
{{ . }}
{{- else -}}
{{ int64 . }}
{{- end -}}
{{- end }}

{{/* The keys of a map, a line each; what is empty is left out. */}}
{{- define "lanner.tomlKeys" -}}
{{- range $key, $value := . }}
{{- if or (kindIs "bool" $value) (kindIs "float64" $value) (kindIs "int64" $value) (kindIs "int" $value) $value }}
{{ $key }} = {{ include "lanner.toml" $value }}
{{- end }}
{{- end }}
{{- end }}

{{- define "lanner.config" -}}
data_dir = "/var/lib/lanner/data"
cache_dir = "/var/cache/lanner/own"
listen = "0.0.0.0:{{ .Values.ports.http }}"
admin_listen = "0.0.0.0:{{ .Values.ports.admin }}"
{{- include "lanner.tomlKeys" (pick .Values.config "rules" "app" "allow_hosts" "filters") }}
{{- range .Values.auth.credentials }}

[[credentials]]
name = {{ toJson .name }}
roles = {{ include "lanner.toml" .roles }}
secret_file = "/etc/lanner/credentials/{{ .name }}"
{{- end }}
{{- range $table := list "policy" "functions" "verify" "registry" "scan" "http" }}
{{- with get $.Values.config $table }}

[{{ $table }}]
{{- include "lanner.tomlKeys" . }}
{{- end }}
{{- end }}
{{- with .Values.intake }}
{{- if .enabled }}

[intake]
listen = "0.0.0.0:{{ $.Values.ports.intake }}"
secret_file = "/etc/lanner/intake/secret"
{{- include "lanner.tomlKeys" (pick . "allow") }}
{{- if .tls.enabled }}

[intake.tls]
certificate_file = "/etc/lanner/{{ ternary "intake-tls" "door" (ne .tls.existingSecret "") }}/tls.crt"
key_file = "/etc/lanner/{{ ternary "intake-tls" "door" (ne .tls.existingSecret "") }}/tls.key"
{{- if .tls.clientCASecret }}
client_ca_file = "/etc/lanner/intake-clients/ca.crt"
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.falco }}

[falco]
witness = {{ .witness }}
start_deadline = {{ int64 .startDeadline }}
end_deadline = {{ int64 .endDeadline }}
{{- if .pods.enabled }}

[falco.pods]
namespace = {{ toJson .namespace }}
labels = {{ include "lanner.falcoSelector" $ | toJson }}
port = {{ int64 .pods.port }}
server_name = {{ toJson .pods.serverName }}
ca_file = "/etc/lanner/falco/ca.crt"
certificate_file = "/etc/lanner/falco/tls.crt"
key_file = "/etc/lanner/falco/tls.key"
{{- end }}
{{- end }}

[kubernetes]
instance = {{ toJson .Release.Name }}
listen = "0.0.0.0:{{ .Values.ports.door }}"
url = {{ include "lanner.doorURL" . | toJson }}
certificate_file = "/etc/lanner/door/tls.crt"
key_file = "/etc/lanner/door/tls.key"
authority_file = "/etc/lanner/door/ca.crt"
start_deadline = {{ int64 .Values.scans.startDeadline }}
{{- if .Values.projects.claim }}
sources = "/var/lib/lanner-projects"
{{- end }}
{{- with .Values.projects.bucket }}
{{- if .url }}

[kubernetes.bucket]
url = {{ toJson .url }}
{{- include "lanner.tomlKeys" (dict "endpoint" .endpoint "region" .region) }}
allow_http = {{ .allowHttp }}
{{- if .existingSecret }}
access_key_file = "/etc/lanner/bucket/access-key"
secret_key_file = "/etc/lanner/bucket/secret-key"
{{- end }}
{{- if .authority }}
authority_file = "/etc/lanner/bucket-ca.pem"
{{- end }}
{{- end }}
{{- end }}
{{- if include "lanner.reviewsTokens" . }}

[kubernetes.auth]
audience = {{ toJson .Values.auth.tokenReview.audience }}
{{- range .Values.auth.roles }}

[[kubernetes.auth.roles]]
{{- include "lanner.tomlKeys" (pick . "group" "account" "roles") }}
{{- end }}
{{- end }}
{{- if .Values.alertFilters.enabled }}

[kubernetes.filters]
namespace = {{ toJson .Release.Namespace }}
{{- end }}

[kubernetes.pods]
image = {{ include "lanner.image" . | toJson }}
image_pull_policy = {{ toJson .Values.image.pullPolicy }}
{{- with .Values.scans }}
{{- include "lanner.tomlKeys" (dict
  "namespace" .namespace "images" .images "image_pull_secrets" .imagePullSecrets "cpu_request" .cpuRequest
  "cpu_limit" .cpuLimit "runtime_class" .runtimeClass "priority_class" .priorityClass "node_selector" .nodeSelector
  "tolerations" .tolerations "labels" .labels "source_claim" $.Values.projects.scansClaim) }}
{{- end }}
{{- end }}

{{/* Whether tokens of service accounts are taken: "true" or nothing. */}}
{{- define "lanner.reviewsTokens" -}}
{{- if and .Values.auth.tokenReview.enabled .Values.auth.roles }}true{{ end -}}
{{- end }}

{{- define "lanner.falcoSelector" -}}
{{- $pairs := list -}}
{{- range $key, $value := .Values.falco.labels -}}{{- $pairs = append $pairs (printf "%s=%s" $key $value) -}}{{- end -}}
{{- join "," $pairs -}}
{{- end }}
