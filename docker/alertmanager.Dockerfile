# Debian's Alertmanager, so that a cluster needs no image registry. Needs BuildKit; see Dockerfile for apt_conf.
ARG BASE=debian:trixie-slim
FROM ${BASE}
LABEL org.opencontainers.image.title="Alertmanager for Espalier" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="debian:trixie-slim"
RUN --mount=type=secret,id=apt_conf,target=/etc/apt/apt.conf.d/90build \
    apt-get -q update \
    && DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends prometheus-alertmanager \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/lib/prometheus \
    && install -d -o 10001 -g 10001 /var/lib/alertmanager
USER 10001:10001
VOLUME /var/lib/alertmanager
EXPOSE 9093
STOPSIGNAL SIGTERM
# One of its own kind is enough for a cluster on one machine: it does not look for others.
ENTRYPOINT ["/usr/bin/prometheus-alertmanager", "--storage.path=/var/lib/alertmanager", "--cluster.listen-address="]
CMD ["--config.file=/etc/espalier/alertmanager.yml"]
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
  CMD ["/usr/bin/amtool", "--alertmanager.url=http://127.0.0.1:9093", "config", "show"]
