// The Prometheus operator's CRDs, which its repository has as files.
module syslogsink.io/test-cluster/monitoring

go 1.26.0

require github.com/prometheus-operator/prometheus-operator v0.85.0
