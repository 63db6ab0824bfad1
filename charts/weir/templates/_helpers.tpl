{{- define "weir.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "weir.fullname" -}}
{{- $name := include "weir.name" . }}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) }}
{{- $chosen := .Values.fullnameOverride | default $full | trunc 52 | trimSuffix "-" }}
{{- if not (regexMatch "^[a-z]" $chosen) }}
{{- fail (printf "the objects would be named %s, and a Service's name has to begin with a letter: set fullnameOverride" $chosen) }}
{{- end }}
{{- $chosen }}
{{- end }}

{{/* Another role of the agent is another component. */}}
{{- define "weir.selectorLabels" -}}
app.kubernetes.io/name: {{ include "weir.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: node
{{- end }}

{{/* Labels of every object beside those that select it. */}}
{{- define "weir.commonLabels" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: weir
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "weir.labels" -}}
{{ include "weir.selectorLabels" . }}
{{ include "weir.commonLabels" . }}
{{- end }}

{{- define "weir.image" -}}
{{- with .Values.image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- define "weir.serviceAccountName" -}}
{{- $own := ternary (include "weir.fullname" .) "default" .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default $own }}
{{- end }}

{{/* "10m" in seconds, parts of one rounded up. The schema allows ms, s, m and h. */}}
{{- define "weir.seconds" -}}
{{- $number := regexFind "^[0-9]+" . | int64 }}
{{- $unit := regexFind "[a-z]+$" . }}
{{- if eq $unit "ms" }}{{ div (add $number 999) 1000 }}{{ else }}{{ mul $number (get (dict "s" 1 "m" 60 "h" 3600) $unit) }}{{ end }}
{{- end }}

{{- define "weir.gracePeriod" -}}
{{- $drain := include "weir.seconds" .Values.drainTimeout | int64 }}
{{- $grace := .Values.terminationGracePeriodSeconds }}
{{- if kindIs "invalid" $grace }}{{ add $drain 30 }}
{{- else if le (int64 $grace) $drain }}
{{- fail (printf "terminationGracePeriodSeconds (%d) must exceed drainTimeout (%s): the kubelet would kill the agent while RPCs still finish" (int64 $grace) .Values.drainTimeout) }}
{{- else }}{{ int64 $grace }}
{{- end }}
{{- end }}

{{/* The node's folder that the chart's seccomp profile is written to, and the file's name. */}}
{{- define "weir.seccompFolder" -}}
{{ .Values.kubeletRootDir }}/seccomp/{{ dir .Values.seccompProfile.localhostProfile }}
{{- end }}

{{- define "weir.installsSeccomp" -}}
{{- if and (eq .Values.seccompProfile.type "Localhost") .Values.seccompProfile.install }}true{{ end }}
{{- end }}

{{- define "weir.testLabels" -}}
app.kubernetes.io/name: {{ include "weir.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: test
{{- end }}

{{/* Whether the Prometheus operator's objects can be made. */}}
{{- define "weir.hasPrometheusOperator" -}}
{{- if .Capabilities.APIVersions.Has "monitoring.coreos.com/v1" }}true{{ end }}
{{- end }}
