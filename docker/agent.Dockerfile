# Fluent Bit with the output and the input, from the project's root:
#   docker build -f docker/agent.Dockerfile -t syslog-sink-agent:0.1.0 .
# The libraries need the glibc of the image that they are built in, or a later one.
# Debian 11 (glibc 2.31) is the oldest that Fluent Bit's images are made of (2.2 to
# 3.1). Rust itself requires only an older glibc, so building on the oldest base gives
# libraries for all. tests/images loads them in a Debian 11, and delivers with the
# output.
ARG RUST_IMAGE=docker.io/library/rust:1.95-bullseye
ARG FLUENT_BIT_IMAGE=docker.io/fluent/fluent-bit:5.1.1

FROM ${RUST_IMAGE} AS build
WORKDIR /build
COPY . .
RUN cargo build --locked --release --package plugin --package pod-logs --package agent && \
    cd target/release && \
    strip --strip-debug libout_syslog_sink.so libin_pod_logs.so sink-agent

FROM ${FLUENT_BIT_IMAGE}
LABEL org.opencontainers.image.title="syslog-sink-agent" \
      org.opencontainers.image.description="Fluent Bit with the output syslog_sink and the input pod_logs" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /build/target/release/libout_syslog_sink.so /fluent-bit/plugins/out_syslog_sink.so
COPY --from=build /build/target/release/libin_pod_logs.so /fluent-bit/plugins/in_pod_logs.so
COPY --from=build /build/target/release/sink-agent /fluent-bit/bin/sink-agent
COPY fluent-bit-conf /fluent-bit/etc/syslog-sink
# Checks the folders, then becomes Fluent Bit. What follows are Fluent Bit's own
# arguments.
ENTRYPOINT ["/fluent-bit/bin/sink-agent", "--", "/fluent-bit/bin/fluent-bit", \
            "-e", "/fluent-bit/plugins/in_pod_logs.so", \
            "-e", "/fluent-bit/plugins/out_syslog_sink.so"]
CMD ["-c", "/fluent-bit/etc/syslog-sink/kubernetes.yaml"]
