# The API, the scheduler and the courier: one image without torch and without ffmpeg, of about 660 MB. The largest parts are
# PyAV and numpy, which read the files of customers, and c2pa, which reads and signs manifests.
# Build it from the repository's root:  docker build -f deploy/api.Dockerfile -t cinemeter-api .
FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /source
RUN python -m venv /opt/cinemeter
# The pinned packages are a layer of their own: it is built again only when they change.
COPY pyproject.toml constraints.txt ./
# EXTRAS=pictures adds onnxruntime, for a policy of moderation with a picture classifier.
ARG EXTRAS=""
RUN /opt/cinemeter/bin/python -c "import sys, tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; extras = project['optional-dependencies']; print(*project['dependencies'], *(name for extra in ('tracing', *sys.argv[1].split()) for name in extras[extra]), sep='\n')" "$EXTRAS" > requirements.txt \
    && /opt/cinemeter/bin/pip install -c constraints.txt -r requirements.txt
COPY README.md LICENSE ./
COPY pricing pricing
COPY app app
COPY workers workers
RUN /opt/cinemeter/bin/pip install --no-deps .

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="Cinemeter API" org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --uid 10001 --home-dir /var/lib/cinemeter --create-home cinemeter
COPY --from=build /opt/cinemeter /opt/cinemeter
ENV PATH=/opt/cinemeter/bin:$PATH PYTHONUNBUFFERED=1 CINEMETER_HOME=/var/lib/cinemeter CINEMETER_HOST=0.0.0.0
USER 10001
WORKDIR /var/lib/cinemeter
EXPOSE 8000 9100
ENTRYPOINT ["cinemeter"]
CMD ["api"]
