// The CRDs of the Prometheus operator, from the files in its repository.
module syslogsink.io/test-cluster/monitoring

go 1.26.0

require github.com/prometheus-operator/prometheus-operator v0.85.0
