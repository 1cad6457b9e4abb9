# The receiver of compose.yaml: rsyslog with TLS and RELP, and the makers of
# container logs. From the project's root:
#   docker build -f docker/receiver.Dockerfile -t syslog-sink-receiver:0.1.0 .
ARG DEBIAN_IMAGE=docker.io/library/debian:bookworm-slim
FROM ${DEBIAN_IMAGE}
LABEL org.opencontainers.image.title="syslog-sink-receiver" \
      org.opencontainers.image.description="A receiver to try the output syslog_sink with" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN apt-get update && \
    apt-get install --yes --no-install-recommends openssl rsyslog rsyslog-openssl rsyslog-relp && \
    rm -rf /var/lib/apt/lists/*
COPY docker/compose/rsyslog.conf /etc/rsyslog.conf
COPY docker/compose/receive docker/compose/talk docker/compose/arrived /usr/local/bin/
# 6514 (0x1972): syslog over TLS. 2514 (0x09D2): RELP. 0A: somebody listens.
EXPOSE 6514 2514
HEALTHCHECK --interval=2s --start-period=30s CMD \
    grep -q ':1972 .* 0A ' /proc/net/tcp /proc/net/tcp6 && \
    grep -q ':09D2 .* 0A ' /proc/net/tcp /proc/net/tcp6
CMD ["receive"]
