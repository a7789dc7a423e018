# The service on a CPU:             docker build -t deepemotion .
# The service on an NVIDIA GPU:     docker build -t deepemotion:gpu --build-arg TORCH_BACKEND=cuda .
FROM python:3.11-slim-bookworm AS build
ARG TORCH_BACKEND=cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
# Memory that is not given back to the system after every gradient step: `python -m bench.footprint`.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libjemalloc2 \
    && cp /usr/lib/*-linux-gnu/libjemalloc.so.2 /opt/venv/lib/
WORKDIR /build
# Every file but PyTorch's is of a digest that is written down: `make lock`. PyTorch's release is, and its file is not,
# nor are those of NVIDIA that come with it for a GPU: the CPU build is another file on each platform, and not where the
# others are.
COPY deploy/requirements.lock deploy/
RUN /opt/venv/bin/pip install --require-hashes -r deploy/requirements.lock
COPY deploy/install_torch.sh deploy/torch_version.txt deploy/
RUN sh deploy/install_torch.sh /opt/venv/bin/python "$TORCH_BACKEND" "$(cat deploy/torch_version.txt)"
COPY pyproject.toml README.md ./
COPY app app
RUN /opt/venv/bin/pip install --no-deps --no-build-isolation . \
    && /opt/venv/bin/pip check \
    && /opt/venv/bin/pip uninstall --yes uv pip setuptools

FROM python:3.11-slim-bookworm
COPY --from=build /opt/venv /opt/venv
WORKDIR /srv/deepemotion
COPY models models
ENV PATH=/opt/venv/bin:$PATH \
    LD_PRELOAD=/opt/venv/lib/libjemalloc.so.2 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DEEPEMOTION_HOST=0.0.0.0
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-c", \
    "import urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:8000/readyz', timeout=4)"]
CMD ["deepemotion", "serve"]
