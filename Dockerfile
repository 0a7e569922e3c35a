# The builder and the image that runs are the same Debian, so that the C library fits.
FROM rust:1.95-trixie AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin roomlift

FROM debian:trixie-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin roomlift \
    && install --directory --owner=roomlift --group=roomlift --mode=0700 /data
COPY --from=build /src/target/release/roomlift /usr/local/bin/roomlift
USER roomlift
WORKDIR /data
# config.toml goes in here; the database and the encryption keys are made beside it, in data/.
# Files with secrets must belong to user 10001 and be readable by nobody else. Nothing else is
# written, so that the image can run with a read-only root file system.
VOLUME /data
# Health and metrics, for the check below; to have them read from outside, set another address.
ENV ROOMLIFT_LISTEN=127.0.0.1:9187
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s \
    CMD ["roomlift", "health", "--config", "/data/config.toml"]
ENTRYPOINT ["roomlift"]
CMD ["run", "--config", "/data/config.toml"]
