{{/* The agent's flags, by their environment variables. */}}
{{- define "weir.env" -}}
- name: WEIR_NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
- name: WEIR_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: WEIR_POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
# An agent that ends because this DaemonSet is gone leaves nothing behind in the kernel; otherwise its successor goes on.
- name: WEIR_DAEMONSET
  value: {{ include "weir.fullname" . | quote }}
- name: WEIR_CLUSTER_DOMAIN
  value: {{ .Values.clusterDomain | quote }}
- name: WEIR_LOG_LEVEL
  value: {{ .Values.logLevel | quote }}
- name: WEIR_LOG_FORMAT
  value: {{ ternary "json" "text" .Values.logAsJson | quote }}
- name: WEIR_ACCESS_LOG
  value: {{ .Values.accessLog.mode | quote }}
- name: WEIR_ACCESS_LOG_FORMAT
  value: {{ .Values.accessLog.format | quote }}
- name: WEIR_REDIRECT
  value: {{ .Values.redirect | quote }}
- name: WEIR_DETECT
  value: {{ ternary "on" "off" .Values.detect | quote }}
- name: WEIR_EVENTS
  value: {{ .Values.events | quote }}
- name: WEIR_DRAIN_TIMEOUT
  value: {{ .Values.drainTimeout | quote }}
- name: WEIR_METRICS_ADDRESS
  value: {{ printf "%s:%d" .Values.metrics.address (int .Values.metrics.port) | quote }}
{{- if dig "limits" "memory" "" .Values.resources }}
- name: WEIR_MEMORY_LIMIT
  valueFrom:
    resourceFieldRef:
      containerName: weir-agent
      resource: limits.memory
{{- end }}
{{- $optional := dict
  "WEIR_WORKERS" .Values.workers
  "WEIR_LEARN_AFTER" .Values.learnAfter
  "WEIR_VERDICT_LIFETIME" .Values.verdictLifetime
  "WEIR_VERDICT_SAMPLE" .Values.verdictSample
  "WEIR_SEND_TIMEOUT" .Values.sendTimeout
  "WEIR_STREAM_IDLE_TIMEOUT" .Values.streamIdleTimeout
  "WEIR_POD_MAX_CONNECTIONS" .Values.podLimits.maxConnections
  "WEIR_POD_MAX_STREAMS" .Values.podLimits.maxStreams
  "WEIR_POD_MAX_MEMORY" .Values.podLimits.maxMemory
  "WEIR_CGROUP_ROOT" (.Values.cgroup.root | default nil) }}
{{- range $name, $value := $optional }}
{{- if not (kindIs "invalid" $value) }}
- name: {{ $name }}
  {{- /* To Helm all numbers are floating-point: a million would be 1e+06. */}}
  value: {{ ternary $value (int64 $value) (kindIs "string" $value) | quote }}
{{- end }}
{{- end }}
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end }}
