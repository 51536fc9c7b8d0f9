# The command line, which reaches every service's package, and a shell for the
# script that sets the mesh of docker compose up.
FROM golang:1.26-bookworm AS build
WORKDIR /src
ENV GOWORK=off CGO_ENABLED=0 GOFLAGS=-buildvcs=false
COPY proto proto
COPY pkg pkg
COPY services services
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    go -C services/weir build -trimpath -o /out/weir ./cmd/weir

FROM debian:bookworm-slim
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/weir /usr/local/bin/weir
COPY deploy/docker/register.sh /usr/local/bin/register
RUN groupadd --gid 7700 weir && useradd --uid 7700 --gid weir --no-create-home weir \
    && install -d -o weir -g weir /certs /state
USER weir
ENTRYPOINT ["weir"]
