# The operator and its commands: one image.
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY operator/ operator/
# Compiled here once: the image's root is read-only where it runs.
RUN python -m venv /opt/modelexperiment \
    && /opt/modelexperiment/bin/pip install --no-cache-dir --compile .[comparer,mlflow,report]

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="modelexperiment" \
      org.opencontainers.image.description="A/B tests between versions of a machine-learning model" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/modelexperiment /opt/modelexperiment
ENV PATH=/opt/modelexperiment/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MPLCONFIGDIR=/tmp/matplotlib
# By number, so that the kubelet can tell that it is not root.
USER 65532:65532
ENTRYPOINT ["modelexperiment"]
CMD ["run"]
