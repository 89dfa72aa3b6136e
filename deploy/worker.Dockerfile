# A worker: torch, diffusers and ffmpeg on top of what the API has. It needs the NVIDIA container toolkit for a GPU.
# Build it from the repository's root:  docker build -f deploy/worker.Dockerfile -t cinemeter-worker .
# PyTorch's default build brings CUDA; --build-arg TORCH_INDEX=<url> takes it from another package index.
FROM python:3.11-slim-bookworm AS build
ARG TORCH_INDEX=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /source
RUN python -m venv /opt/cinemeter
COPY pyproject.toml constraints.txt ./
RUN if [ -n "$TORCH_INDEX" ]; then \
        /opt/cinemeter/bin/pip install --index-url "$TORCH_INDEX" "$(sed -n '/^torch==/p' constraints.txt)"; \
    fi
# EXTRAS=pictures adds onnxruntime, for a policy of moderation with a picture classifier.
ARG EXTRAS=""
RUN /opt/cinemeter/bin/python -c "import sys, tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; extras = project['optional-dependencies']; print(*project['dependencies'], *(name for extra in ('worker', 'hopper', 'tracing', *sys.argv[1].split()) for name in extras[extra]), sep='\n')" "$EXTRAS" > requirements.txt \
    && /opt/cinemeter/bin/pip install -c constraints.txt -r requirements.txt
COPY README.md LICENSE ./
COPY pricing pricing
COPY app app
COPY workers workers
RUN /opt/cinemeter/bin/pip install --no-deps .

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="Cinemeter worker" org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --uid 10001 --home-dir /var/lib/cinemeter --create-home cinemeter \
    && mkdir /models \
    && chown cinemeter:cinemeter /models
COPY --from=build /opt/cinemeter /opt/cinemeter
# Weights are read from /models only: a worker that may download would start when the hub answers, and not before.
ENV PATH=/opt/cinemeter/bin:$PATH PYTHONUNBUFFERED=1 CINEMETER_HOME=/var/lib/cinemeter CINEMETER_HOST=0.0.0.0 \
    HF_HOME=/models/hub HF_HUB_OFFLINE=1
USER 10001
WORKDIR /var/lib/cinemeter
EXPOSE 9100
ENTRYPOINT ["cinemeter"]
CMD ["worker"]
