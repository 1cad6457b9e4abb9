{{/* The labels of everything in the chart. */}}
{{- define "syslog-sink.labels" -}}
app.kubernetes.io/part-of: syslog-sink
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* The labels that select the controller's pods. */}}
{{- define "syslog-sink.controller" -}}
app.kubernetes.io/name: sink-controller
{{- end }}

{{/* An image's whole name. */}}
{{- define "syslog-sink.image" -}}
{{ .image.repository }}:{{ .image.tag | default .chart.AppVersion }}
{{- end }}

{{/*
The controller's settings: those of the chart's own values, and the rest. A value of null
removes a default in Helm, so that it is an empty one here: without the key, the program's own
default would come back.
*/}}
{{- define "syslog-sink.settings" -}}
{{- $agent := dict
  "image" (include "syslog-sink.image" (dict "image" .Values.agent.image "chart" .Chart))
  "imagePullPolicy" .Values.agent.image.pullPolicy
  "imagePullSecrets" (.Values.agent.imagePullSecrets | default list)
  "resources" (.Values.agent.resources | default dict)
  "nodeSelector" (.Values.agent.nodeSelector | default dict)
  "affinity" (.Values.agent.affinity | default dict)
  "tolerations" (.Values.agent.tolerations | default list)
  "priorityClassName" .Values.agent.priorityClassName
  "metricsPort" .Values.agent.metricsPort
  "maxUnavailablePercent" .Values.agent.maxUnavailablePercent -}}
{{- /* The others are never empty: the program's defaults are the chart's. */ -}}
{{- range $key, $value := $agent -}}
{{- if kindIs "invalid" $value -}}
{{- $agent = unset $agent $key -}}
{{- end -}}
{{- end -}}
{{- with .Values.agent.seLinuxOptions -}}
{{- $agent = set $agent "seLinuxOptions" . -}}
{{- end }}
{{- $own := dict
  "deployment" "sink-controller"
  "log" .Values.controller.logFormat
  "paths" (dict
    "state" (.Values.agent.stateFolder | default "/var/lib/syslog-sink")
    "pods" (.Values.agent.podLogsFolder | default "/var/log/pods")
    "links" (.Values.agent.linkFolders | default list))
  "agent" $agent -}}
{{- merge $own (deepCopy (.Values.settings | default dict)) | toYaml }}
{{- end }}
