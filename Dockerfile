# The agent and weirctl on Debian 12. `docker build .` compiles them in here; `make image` gives what `make build` has made
# as the stage `install` (--build-context install=FOLDER), and then nothing is compiled.

FROM docker.io/library/debian:12-slim AS build
COPY packages.txt /tmp/
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
      $(sed -n '/^# Build$/,/^$/{/^[^#]/p}' /tmp/packages.txt)
WORKDIR /weir
COPY . .
RUN cmake --preset release -DWEIR_TESTS=OFF \
 && cmake --build --preset release --target weir-agent weirctl \
 && DESTDIR=/installed cmake --install build/release --strip

FROM scratch AS install
COPY --from=build /installed/ /

FROM docker.io/library/debian:12-slim
COPY packages.txt /usr/local/share/doc/weir/
# Nobody logs in here, so nothing has to be setuid or setgid.
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
      $(sed -n '/^# Run /,/^$/{/^[^#]/p}' /usr/local/share/doc/weir/packages.txt) \
 && apt-get clean \
 && find / -xdev -type f -perm /6000 -exec chmod ug-s {} + \
 && rm -rf /var/lib/apt/lists/* /var/cache/ldconfig /var/cache/debconf/*-old /var/lib/dpkg/*-old /var/log/*
COPY --from=install / /
LABEL org.opencontainers.image.title="weir" \
      org.opencontainers.image.description="Per-node gRPC data plane for Kubernetes: balances every RPC, without sidecars" \
      org.opencontainers.image.source="https://github.com/weir/weir" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0 AND (GPL-2.0-only OR Apache-2.0)" \
      org.opencontainers.image.base.name="docker.io/library/debian:12-slim"
# There is no USER but root: the agent loads BPF programs and enters the network namespaces of other users' pods, and Kubernetes
# gives a container effective capabilities only as root. What root may do here is limited to the capabilities the pod names.
ENTRYPOINT ["/usr/local/bin/weir-agent"]
CMD ["node"]
