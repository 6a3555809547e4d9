# A worker whose engine is SGLang on the CPU with the toy model: the whole service on a machine without a GPU.
# Built from the repository's root; .dockerignore says what comes along.

FROM astral/uv:0.13.8 AS uv

FROM python:3.11-slim-bookworm AS build
COPY --from=uv /uv /usr/local/bin/uv
ENV UV_CACHE_DIR=/var/cache/uv UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy
WORKDIR /build
COPY requirements.lock .
RUN --mount=type=cache,target=/var/cache/uv \
    uv venv --python /usr/local/bin/python3.11 /opt/tram \
 && uv pip sync --python /opt/tram/bin/python --require-hashes requirements.lock
COPY . .
RUN --mount=type=cache,target=/var/cache/uv \
    uv build --wheel --build-constraints requirements-dev.lock --require-hashes --out-dir /dist \
 && uv pip install --python /opt/tram/bin/python --no-deps /dist/*.whl

FROM build AS engine
WORKDIR /srv
ENV TRAM_ENGINE_ENV=/opt/engine
RUN --mount=type=cache,target=/var/cache/uv /opt/tram/bin/tram engine install

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="tramontane-worker-cpu" \
      org.opencontainers.image.description="Tramontane: a worker with SGLang on the CPU and a toy model" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin tram \
 && install --directory --owner=tram --group=tram --mode=0700 /var/lib/tram
COPY --from=engine /opt/engine /opt/engine
COPY --from=build /opt/tram /opt/tram
ENV PATH="/opt/tram/bin:$PATH" \
    HOME=/home/tram \
    PYTHONUNBUFFERED=1 \
    TRAM_ENGINE_ENV=/opt/engine \
    TRAM_DATA_DIR=/var/lib/tram
# Nothing to import lies here: Celery puts the working directory on the path.
WORKDIR /srv
USER 10001
# Not `--ready`: a worker mends its engine by itself, and replacing it for that would only take longer.
HEALTHCHECK --interval=30s --timeout=10s --start-period=900s \
    CMD ["tram", "health", "worker"]
CMD ["tram", "worker"]
