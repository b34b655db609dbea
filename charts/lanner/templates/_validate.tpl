{{/* What no schema can say in words. */}}
{{- define "lanner.validate" -}}
{{- if ne (int .Values.replicas) 1 -}}
{{- fail "replicas must be 1: the store is embedded in the host, and two hosts cannot share it" -}}
{{- end -}}
{{- if eq .Values.scans.namespace .Release.Namespace -}}
{{- fail "scans.namespace must not be the release's own: scan pods run code that nobody trusts, and its network policies would hold the host too" -}}
{{- end -}}
{{- if and .Values.falco.witness (not .Values.intake.enabled) (not .Values.falco.pods.enabled) -}}
{{- fail "falco.witness needs a door for Falco's marks: set intake.enabled or falco.pods.enabled" -}}
{{- end -}}
{{- if and .Values.falco.pods.enabled (not .Values.falco.pods.secret) -}}
{{- fail "falco.pods.enabled needs falco.pods.secret: Falco's port asks for certificates on both sides" -}}
{{- end -}}
{{- if ne (empty .Values.projects.claim) (empty .Values.projects.scansClaim) -}}
{{- fail "projects.claim and projects.scansClaim are two claims on one volume: set both or neither" -}}
{{- end -}}
{{- with .Values.projects.bucket -}}
{{- if and .url $.Values.projects.claim -}}
{{- fail "projects.bucket.url and projects.claim are two ways for projects: set one of them" -}}
{{- end -}}
{{- if and .url (not .egress) $.Values.networkPolicy.enabled -}}
{{- fail "projects.bucket.url with networkPolicy.enabled needs projects.bucket.egress: scan pods could not reach the bucket" -}}
{{- end -}}
{{- if and (hasPrefix "http://" .endpoint) (not .allowHttp) -}}
{{- fail "projects.bucket.endpoint is without TLS: use https://, or set projects.bucket.allowHttp" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "ingress.enabled needs ingress.hosts" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "httpRoute.enabled needs httpRoute.parentRefs" -}}
{{- end -}}
{{- if and .Values.door.existingSecret (or .Values.door.dnsNames .Values.door.ipAddresses) -}}
{{- fail "door.dnsNames and door.ipAddresses are for the certificate that the chart makes: door.existingSecret brings its own" -}}
{{- end -}}
{{- if and .Values.hostNetwork .Values.networkPolicy.enabled (not .Values.networkPolicy.doorCIDRs) -}}
{{- fail "hostNetwork with networkPolicy.enabled needs networkPolicy.doorCIDRs: policies do not see such a pod by its labels, and scan pods could not reach the door" -}}
{{- end -}}
{{- if and .Values.serviceMonitor.enabled .Values.networkPolicy.enabled (not .Values.networkPolicy.adminFrom) -}}
{{- fail "serviceMonitor.enabled with networkPolicy.enabled needs networkPolicy.adminFrom: say where Prometheus is" -}}
{{- end -}}
{{- if and .Values.door.url (not (hasSuffix (printf ":%d" (int .Values.ports.door)) .Values.door.url)) .Values.networkPolicy.enabled -}}
{{- fail "door.url must name the port ports.door: network policies let scan pods out to no other" -}}
{{- end -}}
{{- end }}
