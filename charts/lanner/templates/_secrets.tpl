{{/*
Secrets that the chart makes: once, at the first install, and read back from the cluster at each upgrade. `helm template`
sees no cluster and makes new ones each time.

"lanner.secrets" fills .Values.made, so that all templates of one run see the same: `credentials`, `door` and `intake`,
each a map of key to base64.
*/}}
{{- define "lanner.secrets" -}}
{{- if not (hasKey .Values "made") -}}
{{- $made := dict -}}
{{- if not .Values.auth.existingSecret -}}
{{- $old := (lookup "v1" "Secret" .Release.Namespace (include "lanner.authSecret" .)).data | default dict -}}
{{- $data := dict -}}
{{- range .Values.auth.credentials -}}
{{- $_ := set $data .name (get $old .name | default (randAlphaNum 40 | b64enc)) -}}
{{- end -}}
{{- $_ := set $made "credentials" $data -}}
{{- end -}}
{{- if and .Values.intake.enabled (not .Values.intake.existingSecret) -}}
{{- $old := (lookup "v1" "Secret" .Release.Namespace (include "lanner.intakeSecret" .)).data | default dict -}}
{{- $_ := set $made "intake" (dict "secret" (get $old "secret" | default (randAlphaNum 40 | b64enc))) -}}
{{- end -}}
{{- if not .Values.door.existingSecret -}}
{{- $_ := set $made "door" (include "lanner.doorFiles" . | fromJson) -}}
{{- end -}}
{{- $_ := set .Values "made" $made -}}
{{- end -}}
{{- end }}

{{/* What the door's certificate is for, as its Secret remembers it: other names make another certificate. */}}
{{- define "lanner.doorNames" -}}
{{- $names := list -}}
{{- range list (include "lanner.doorService" .) (include "lanner.intakeService" .) -}}
{{- $names = concat $names (list . (printf "%s.%s" . $.Release.Namespace) (printf "%s.%s.svc" . $.Release.Namespace) (printf "%s.%s.svc.cluster.local" . $.Release.Namespace)) -}}
{{- end -}}
{{- concat $names .Values.door.dnsNames | join "," -}}
{{- end }}
{{- define "lanner.doorAddresses" -}}
{{- concat (compact (list .Values.door.clusterIP)) .Values.door.ipAddresses | uniq | join "," -}}
{{- end }}

{{- define "lanner.doorFiles" -}}
{{- $secret := lookup "v1" "Secret" .Release.Namespace (include "lanner.doorSecret" .) -}}
{{- $names := include "lanner.doorNames" . -}}
{{- $addresses := include "lanner.doorAddresses" . -}}
{{- $for := printf "%s,%s" $names $addresses -}}
{{- $was := "" -}}
{{- if $secret -}}{{- $was = get ($secret.metadata.annotations | default dict) "lanner.dev/certificate-for" -}}{{- end -}}
{{- if and $secret (eq $was $for) -}}
{{- $secret.data | toJson -}}
{{- else -}}
{{- $days := int .Values.door.validityDays -}}
{{- $ca := genCA (printf "%s door" (include "lanner.fullname" .)) $days -}}
{{- $ips := compact (splitList "," $addresses) -}}
{{- $pair := genSignedCert (include "lanner.doorService" .) $ips (splitList "," $names | toJson | fromJsonArray) $days $ca -}}
{{- dict "ca.crt" (b64enc $ca.Cert) "tls.crt" (b64enc $pair.Cert) "tls.key" (b64enc $pair.Key) | toJson -}}
{{- end -}}
{{- end }}
