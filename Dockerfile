# The CPU image: ONNX Runtime, no torch, no pip, no compiler. Runs as a numeric user on a read-only root.
#
#   docker build -t lmht-serve . && docker run --rm -p 8000:8000 lmht-serve
#   docker run --rm -p 8000:8000 -v "$PWD/my-models:/models:ro" lmht-serve      also serves your own
#
# And one for an NVIDIA GPU, the target `gpu`, which nobody builds who does not name it: some gigabytes more.
#
#   docker build --target gpu -t lmht-serve:gpu . && docker run --rm --gpus 1 -p 8000:8000 lmht-serve:gpu

FROM python:3.11.14-slim-bookworm AS builder
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src

# The dependencies alone, so that a change to the code leaves this layer, nearly all of the image, as it is. With the
# extra that traces: an image is not added to where it runs.
COPY pyproject.toml requirements.lock ./
RUN python3 -m venv --without-pip /opt/venv \
    && python3 -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
print(*project["dependencies"], *project["optional-dependencies"]["otel"], sep="\n")' >core.txt \
    && pip --python /opt/venv/bin/python install --no-compile -c requirements.lock -r core.txt
# Asked for, and imported by nothing that runs here: onnxruntime-openvino names sympy (80 MB) for its offline tool for
# symbolic shapes, hdrhistogram names pbr and setuptools, which build it.
RUN pip --python /opt/venv/bin/python uninstall --yes sympy mpmath pbr setuptools \
    && /opt/venv/bin/python -c 'import hdrh.histogram, onnxruntime, opentelemetry.exporter.otlp.proto.http.trace_exporter'
# A wheel cannot hold links, so onnxruntime-openvino brings each library under up to three names.
RUN cd /opt/venv/lib/python3.11/site-packages/onnxruntime/capi \
    && for library in *.so; do for copy in "$library".*; do \
           if cmp -s "$library" "$copy"; then ln -sf "$library" "$copy"; fi; done; done \
    && echo /opt/app >/opt/venv/lib/python3.11/site-packages/app.pth \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib

COPY README.md LICENSE ./
COPY service service
COPY models models
COPY loadtest loadtest
RUN PIP_CONSTRAINT=requirements.lock PIP_BUILD_CONSTRAINT=requirements.lock \
        pip --python /opt/venv/bin/python install --no-compile --no-deps --target /opt/app . \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/app


# PyTorch as the package index has it, which is the build for CUDA, with the libraries it names; Triton; NVML.
FROM builder AS gpu-builder
RUN python3 -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
print(*project["optional-dependencies"]["gpu"], sep="\n")' >gpu.txt \
    && pip --python /opt/venv/bin/python install --no-compile -c requirements.lock -r gpu.txt \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib


# What both images have beside their packages.
FROM python:3.11.14-slim-bookworm AS runtime
COPY deploy/healthcheck.py /opt/healthcheck.py
# /models is for the user's own: it comes first, so a model there wins over a bundled one of the same name. A volume at
# /reports takes its owner from here, so that the load test can write to it.
# The base's pip goes: nothing is installed here any more.
RUN mkdir /models /reports && chown 10001:10001 /reports \
    && cd /usr/local && rm -rf bin/pip* lib/python3.11/site-packages/pip* \
           lib/python3.11/site-packages/setuptools* lib/python3.11/site-packages/wheel*
# Whatever keeps a cache keeps it under /tmp, the one place to write where the root is read-only.
ENV PATH=/opt/app/bin:/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    LMHT_HOST=0.0.0.0 \
    LMHT_MODELS=/models:/opt/app/models/zoo
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["python", "/opt/healthcheck.py"]
CMD ["lmht", "serve"]


FROM runtime AS gpu
# Triton's way to the driver is a C file that it compiles where it runs, once for each cache. /cache holds what it
# compiled, from which it is loaded: no place that is mounted noexec will do. A volume there takes its owner from here,
# and spares the next container the compiling.
USER root
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/* \
    && mkdir /cache && chown 10001:10001 /cache
USER 10001:10001
COPY --from=gpu-builder /opt/venv /opt/venv
COPY --from=gpu-builder /opt/app /opt/app
# PyTorch names folders by the user, whose number has no name. The last two are for NVIDIA's container runtime: which
# GPUs, and of the driver what computes and what measures.
ENV LMHT_DEVICE=cuda \
    USER=lmht \
    TRITON_CACHE_DIR=/cache/triton \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
# Kernels are compiled at the first start.
HEALTHCHECK --interval=10s --timeout=5s --start-period=600s --retries=3 CMD ["python", "/opt/healthcheck.py"]

ARG CREATED=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="lmht-serve" \
      org.opencontainers.image.description="A classification service for LM-HT spiking networks with a selectable time-step budget" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.base.name="docker.io/library/python:3.11.14-slim-bookworm" \
      org.opencontainers.image.created="$CREATED" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.source="$SOURCE"


FROM runtime
COPY --from=builder /opt/venv /opt/venv
COPY --from=builder /opt/app /opt/app

# After everything that is large, in both images: they differ from build to build.
ARG CREATED=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="lmht-serve" \
      org.opencontainers.image.description="A classification service for LM-HT spiking networks with a selectable time-step budget" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.base.name="docker.io/library/python:3.11.14-slim-bookworm" \
      org.opencontainers.image.created="$CREATED" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.source="$SOURCE"
