# A worker and its engine on an NVIDIA GPU: SGLang's own image, with Tramontane in an environment beside SGLang's.
# Built from the repository's root; .dockerignore says what comes along.

FROM astral/uv:0.13.8 AS uv

FROM lmsysorg/sglang:v0.5.23 AS sglang

FROM sglang AS build
COPY --from=uv /uv /usr/local/bin/uv
ENV UV_CACHE_DIR=/var/cache/uv UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy
WORKDIR /build
COPY requirements.lock .
# From the interpreter behind SGLang's environment, not from the environment.
RUN --mount=type=cache,target=/var/cache/uv \
    uv venv --python /opt/sglang/bin/python /opt/tram \
 && uv pip sync --python /opt/tram/bin/python --require-hashes requirements.lock
COPY . .
RUN --mount=type=cache,target=/var/cache/uv \
    uv build --wheel --build-constraints requirements-dev.lock --require-hashes --out-dir /dist \
 && uv pip install --python /opt/tram/bin/python --no-deps /dist/*.whl

FROM sglang
LABEL org.opencontainers.image.title="tramontane-worker" \
      org.opencontainers.image.description="Tramontane: a worker with SGLang for an NVIDIA GPU" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
# The image runs SGLang from a checkout, tram looks for it among the environment's packages: a link shows it there, and fails
# the build should a later image hold it there itself.
RUN ln --symbolic --no-target-directory \
        "$(/opt/sglang/bin/python -P -c 'import importlib.util as u; print(*u.find_spec("sglang").submodule_search_locations)')" \
        "$(/opt/sglang/bin/python -P -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/sglang" \
 && useradd --uid 10001 --create-home --shell /usr/sbin/nologin tram \
 && install --directory --owner=tram --group=tram --mode=0700 /var/lib/tram /models
COPY --from=build /opt/tram /opt/tram
ENV PATH="/opt/tram/bin:$PATH" \
    HOME=/home/tram \
    HF_HOME=/models \
    HF_HUB_OFFLINE=1 \
    HF_HUB_DISABLE_TELEMETRY=1 \
    TORCHINDUCTOR_CACHE_DIR=/home/tram/.cache/torchinductor \
    PYTHONUNBUFFERED=1 \
    TRAM_ENGINE_ENV=/opt/sglang \
    TRAM_DATA_DIR=/var/lib/tram
# Nothing to import lies here: Celery puts the working directory on the path.
WORKDIR /srv
USER 10001
# Not `--ready`: a worker mends its engine by itself, and replacing it for that would only take longer.
HEALTHCHECK --interval=30s --timeout=10s --start-period=900s \
    CMD ["tram", "health", "worker"]
ENTRYPOINT []
CMD ["tram", "worker"]
