# PostgreSQL with the engine module.
FROM debian:bookworm-slim AS build
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev make postgresql-server-dev-15 >/dev/null \
    && rm -rf /var/lib/apt/lists/*
COPY services/capture/engine /src
RUN make -C /src/postgres with_llvm=no

FROM debian:bookworm-slim
RUN groupadd --gid 7700 weir && mkdir -p /etc/postgresql-common && echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf \
    && apt-get update -qq && apt-get install -y -qq --no-install-recommends postgresql-15 >/dev/null \
    && rm -rf /var/lib/apt/lists/* && usermod --append --groups weir postgres \
    && install -d -o postgres -g postgres /data \
    && install -d -o root -g weir -m 2770 /ring
COPY --from=build /src/postgres/weir.so /usr/lib/postgresql/15/lib/weir.so
COPY deploy/docker/postgres.sh /usr/local/bin/postgres.sh
USER postgres
VOLUME /data
EXPOSE 5432
STOPSIGNAL SIGINT
ENTRYPOINT ["postgres.sh"]
