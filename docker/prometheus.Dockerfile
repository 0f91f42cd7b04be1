# Debian's Prometheus, so that a cluster needs no image registry. Needs BuildKit; see Dockerfile for apt_conf.
ARG BASE=debian:trixie-slim
FROM ${BASE}
LABEL org.opencontainers.image.title="Prometheus for Espalier" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="debian:trixie-slim"
RUN --mount=type=secret,id=apt_conf,target=/etc/apt/apt.conf.d/90build \
    apt-get -q update \
    && DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends prometheus \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/lib/prometheus \
    && install -d -o 10001 -g 10001 /var/lib/prometheus
USER 10001:10001
VOLUME /var/lib/prometheus
EXPOSE 9090
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/prometheus", "--storage.tsdb.path=/var/lib/prometheus"]
CMD ["--config.file=/etc/espalier/prometheus.yml"]
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
  CMD ["/usr/bin/promtool", "check", "healthy", "--url=http://127.0.0.1:9090"]
