#!/usr/bin/env bash
# Prints the rules of deploy/prometheus/rules as PrometheusRules, for the Prometheus Operator:
#
#   deploy/kubernetes/prometheus-rules.sh [NAMESPACE] | kubectl apply -f -
set -euo pipefail
namespace=${1:-lmht}
cd "$(dirname "${BASH_SOURCE[0]}")/../prometheus/rules"
for file in *.yml; do
  cat <<EOF
---
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: lmht-${file%.yml}
  namespace: $namespace
  labels:
    app.kubernetes.io/name: lmht
spec:
EOF
  sed 's/^/  /' "$file"
done
