# A host in a container; see docs/run-a-host.md. With its databases: compose.yaml.
FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++ cmake make libblas-dev liblapack-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p ltmc && cp target/release/ltmc /ltmc

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends libblas3 liblapack3 libgomp1 libstdc++6 ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --no-create-home --home-dir /data ltmc && install -d -o ltmc -g ltmc -m 0700 /data
COPY --from=build /ltmc /usr/local/bin/ltmc
# For the host, and for `ltmc` commands in the same container.
ENV LTMC_DATA=/data LTMC_LISTEN=0.0.0.0:7420
USER ltmc
VOLUME /data
EXPOSE 7420
ENTRYPOINT ["ltmc"]
CMD ["serve"]
