# The controller, from the project's root:
#   docker build -f docker/controller.Dockerfile -t syslog-sink-controller:0.1.0 .
ARG RUST_IMAGE=docker.io/library/rust:1.95-bookworm
ARG BASE_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${RUST_IMAGE} AS build
WORKDIR /build
COPY . .
RUN cargo build --locked --profile controller --package controller

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="syslog-sink-controller" \
      org.opencontainers.image.description="From LogSinks to agents, and events to the sinks" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /build/target/controller/sink-controller /usr/local/bin/sink-controller
# Nobody, and nothing is written: the root file system can be read-only.
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/usr/local/bin/sink-controller"]
CMD ["run"]
