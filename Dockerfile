# The CPU image: OpenVINO and ONNX Runtime, no torch, no pip, no compiler. Runs as a numeric user on a read-only root.
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
# Both runtimes report to their makers that they are used: OpenVINO by openvino-telemetry, which goes below, ONNX Runtime
# unless this is set.
ENV ORT_DISABLE_TELEMETRY=1
# Asked for, and imported by nothing that runs here: hdrhistogram names pbr and setuptools, which build it.
RUN pip --python /opt/venv/bin/python uninstall --yes openvino-telemetry pbr setuptools \
    && /opt/venv/bin/python -c 'import hdrh.histogram, opentelemetry.exporter.otlp.proto.http.trace_exporter'
# ONNX Runtime is linked into its module for Python; its library comes once more, for others (35 MB). Of what OpenVINO can
# read and run on (180 MB) stays what a CPU takes: ONNX, its own format, in which compiled graphs are kept, and TBB. It is
# not there on other processors than x86-64.
RUN cd /opt/venv/lib/python3.11/site-packages \
    && rm onnxruntime/capi/libonnxruntime.so.* \
    && /opt/venv/bin/python -W error -c 'import onnxruntime; onnxruntime.SessionOptions()' \
    && if [ -d openvino ]; then \
           find openvino/libs -type f ! -name "libopenvino.so.*" ! -name libopenvino_intel_cpu_plugin.so \
               ! -name "libopenvino_onnx_frontend.so.*" ! -name "libopenvino_ir_frontend.so.*" \
               ! -name "libtbb.so.*" ! -name "libtbbbind*.so.*" ! -name "libtbbmalloc.so.*" ! -name "libhwloc.so.*" -delete \
           && rm -r openvino/cmake openvino/frontend/*/ openvino/include openvino/tools openvino/torch \
               /opt/venv/bin/benchmark_app /opt/venv/bin/ovc \
           && /opt/venv/bin/python -W error -c 'import openvino as ov; from openvino import opset1; \
core, images = ov.Core(), opset1.parameter([1, 4]); ov.frontend.FrontEndManager().load_by_framework("onnx"); \
compiled = core.compile_model(ov.Model([opset1.relu(images)], [images]), "CPU"); \
core.import_model(compiled.export_model().getvalue(), "CPU").create_infer_request().infer()'; \
       fi
RUN echo /opt/app >/opt/venv/lib/python3.11/site-packages/app.pth \
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
# /models is for the user's own: it comes first, so a model there wins over a bundled one of the same name. What is
# compiled is kept in /cache, and the load test writes to /reports: volumes there take their owner from here, and one at
# /cache spares the next container the compiling.
# The base's pip goes: nothing is installed here any more.
RUN mkdir /models /reports /cache && chown 10001:10001 /reports /cache \
    && cd /usr/local && rm -rf bin/pip* lib/python3.11/site-packages/pip* \
           lib/python3.11/site-packages/setuptools* lib/python3.11/site-packages/wheel*
# Whatever else keeps a cache keeps it under /tmp, which can be written to where the root is read-only.
ENV PATH=/opt/app/bin:/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp \
    ORT_DISABLE_TELEMETRY=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    LMHT_CACHE_DIR=/cache/lmht \
    LMHT_HOST=0.0.0.0 \
    LMHT_MODELS=/models:/opt/app/models/zoo
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["python", "/opt/healthcheck.py"]
CMD ["lmht", "serve"]


FROM runtime AS gpu
# Triton's way to the driver is a C file that it compiles where it runs, once for each cache. It is loaded from /cache as
# the kernels are: no place that is mounted noexec will do.
USER root
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
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
