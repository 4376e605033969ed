{{/*
Parts of the admission policies, as CEL. A match condition decides whether a policy applies to a request. Checks by
the authorizer are variables, because CEL evaluates a variable only when a validation reads it, and allows about two
checks in one expression.
*/}}

{{/* The user name of the operator. */}}
{{- define "town-operator.operator" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "town-operator.serviceAccountName" . }}
{{- end }}

{{- define "town-operator.notTheOperator" -}}
- name: not-the-operator
  expression: request.userInfo.username != {{ include "town-operator.operator" . | toJson }}
{{- end }}

{{/*
The controllers of Kubernetes that delete the content of a namespace and the dependents of an object, under both names
that the controller manager can use. A refusal would leave namespaces and owners in deletion for ever.
*/}}
{{- define "town-operator.notKubernetes" -}}
- name: not-kubernetes
  expression: >-
    !(request.userInfo.username in ["system:serviceaccount:kube-system:namespace-controller",
    "system:serviceaccount:kube-system:generic-garbage-collector", "system:kube-controller-manager"])
{{- end }}

{{/* The regular expression of the installation label that the operator of this release writes, as a CEL string. */}}
{{- define "town-operator.installPattern" -}}
{{ printf "^%s\\.[0-9a-f]{8}$" (include "town-operator.installId" . | regexQuoteMeta) | toJson }}
{{- end }}

{{/*
Whether the old or the new object belongs to this installation. Both count: otherwise an object could pass with the
label of another installation and get the label of this one by a second request. A Town, an Agent or a Tombstone
without a label counts too, because the operator can adopt it.
*/}}
{{- define "town-operator.concerns" -}}
- name: concerns-this-installation
  expression: >-
    [object, oldObject].exists(o, o != null && (o.metadata.?labels[?"gastown.dev/install"].orValue("") == "" ||
    o.metadata.labels["gastown.dev/install"].matches({{ include "town-operator.installPattern" . }})))
{{- end }}

{{/* Whether the user is an administrator. The check has no namespace, so only a ClusterRoleBinding grants the verb. */}}
{{- define "town-operator.administrator" -}}
- name: administrator
  expression: authorizer.group("gastown.dev").resource("towns").check("administer").allowed()
{{- end }}

{{/* The definition of an administrator, for messages. */}}
{{- define "town-operator.administratorsText" -}}
administrators (users with the verb administer on towns.gastown.dev)
{{- end }}

{{/* The operator's finalizer on towns and agents, and its name in older versions, as a list in CEL. */}}
{{- define "town-operator.finalizers" -}}
["gastown.dev/cleanup", "gastown.dev/finalizer"]
{{- end }}

{{/* The labels that define ownership, as a list in CEL. */}}
{{- define "town-operator.ownershipLabels" -}}
["gastown.dev/install", "gastown.dev/town-uid", "gastown.dev/agent-uid", "gastown.dev/owner-uid"]
{{- end }}

{{/* The fields of a spec that a dispatcher may change, as a list in CEL. */}}
{{- define "town-operator.dispatchedFields" -}}
["hook", "backlog", "wakeRequest", "suspend"]
{{- end }}

{{/* The head of a policy: list of the context and the name. */}}
{{- define "town-operator.policyHead" -}}
{{- $ := index . 0 }}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata:
  name: {{ index . 1 }}
  labels:
    {{- include "town-operator.labels" $ | nindent 4 }}
{{- end }}

{{/* The binding of a policy: list of the context, the name, and the name of the parameter if the policy has one. */}}
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
  {{- if gt (len .) 2 }}
  paramRef:
    name: {{ index . 2 }}
    parameterNotFoundAction: Deny
  {{- end }}
  validationActions: [Deny]
{{- end }}
