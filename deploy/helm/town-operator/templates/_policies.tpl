{{/*
Parts of the admission policies, as CEL. An expression about who asks stands in a match condition: to whom it does
not apply, the policy does not.
*/}}

{{/* The groups whose members are administrators, as a JSON list. The API server lets the first do anything anyway. */}}
{{- define "town-operator.administrators" -}}
{{- prepend .Values.admissionPolicies.administrators.groups "system:masters" | uniq | toJson }}
{{- end }}

{{/* The same for people to read. */}}
{{- define "town-operator.administratorsText" -}}
{{- $groups := fromJsonArray (include "town-operator.administrators" .) -}}
members of the {{ if gt (len $groups) 1 }}groups{{ else }}group{{ end }} {{ join ", " $groups }}
{{- end }}

{{- define "town-operator.notAnAdministrator" -}}
- name: not-an-administrator
  expression: >-
    !request.userInfo.groups.exists(group, group in {{ include "town-operator.administrators" . }})
{{- end }}

{{- define "town-operator.notTheOperator" -}}
- name: not-the-operator
  expression: >-
    request.userInfo.username != "system:serviceaccount:{{ .Release.Namespace }}:{{ include "town-operator.serviceAccountName" . }}"
{{- end }}

{{/* Our finalizer on towns and agents, and what older versions called it, as a list in CEL. */}}
{{- define "town-operator.finalizers" -}}
["gastown.dev/cleanup", "gastown.dev/finalizer"]
{{- end }}

{{/*
The namespace controller and the garbage collector, by whichever name the controller manager calls them. Were they
refused, namespaces and objects that are deleted with their dependents would hang.
*/}}
{{- define "town-operator.notKubernetesItself" -}}
- name: not-kubernetes-itself
  expression: >-
    !("system:serviceaccounts:kube-system" in request.userInfo.groups ||
    request.userInfo.username in ["system:kube-controller-manager", "system:apiserver"])
{{- end }}

{{/* An object of another installation is the business of that one's policies. What has no label yet is everybody's. */}}
{{- define "town-operator.notAnotherInstallations" -}}
- name: not-another-installations
  expression: >-
    (oldObject == null ? object : oldObject).metadata.?labels[?"gastown.dev/install"].orValue({{ include "town-operator.installId" . | toJson }})
    == {{ include "town-operator.installId" . | toJson }}
{{- end }}

{{/* Puts a policy of this name in force: list of the context and the name. */}}
{{- define "town-operator.policyBinding" -}}
{{- $ := index . 0 }}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ index . 1 }}
  labels:
    {{- include "town-operator.labels" $ | nindent 4 }}
spec:
  policyName: {{ index . 1 }}
  validationActions: [Deny]
{{- end }}
