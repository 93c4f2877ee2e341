# The host alone; see compose.yaml.
FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++ cmake make libblas-dev liblapack-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p ltmc && cp target/release/ltmc /ltmc

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends libblas3 liblapack3 libgomp1 libstdc++6 ca-certificates \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /ltmc /usr/local/bin/ltmc
ENTRYPOINT ["ltmc"]
