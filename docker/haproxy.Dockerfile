# Debian's HAProxy for the edge of a cluster. Needs BuildKit; see Dockerfile for apt_conf.
ARG BASE=debian:trixie-slim
FROM ${BASE}
LABEL org.opencontainers.image.title="HAProxy for Espalier" \
      org.opencontainers.image.licenses="GPL-2.0-or-later" \
      org.opencontainers.image.base.name="debian:trixie-slim"
RUN --mount=type=secret,id=apt_conf,target=/etc/apt/apt.conf.d/90build \
    apt-get -q update \
    && DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends haproxy \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
USER 10001:10001
EXPOSE 7070 8404
# Lets connections that there are go on and ends when they have ended, or after the container's time to stop.
STOPSIGNAL SIGUSR1
ENTRYPOINT ["/usr/sbin/haproxy", "-W", "-db"]
CMD ["-f", "/etc/espalier/haproxy.cfg"]
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
  CMD ["/bin/bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8404 && printf 'GET /health HTTP/1.0\\r\\n\\r\\n' >&3 && read -r line <&3 && [[ $line == *' 200 '* ]]"]
