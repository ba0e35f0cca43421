# syntax=docker/dockerfile:1
FROM python:3.12-slim AS build
# Where PyTorch's wheels come from; empty is the package index with its CUDA builds. For a smaller
# image without CUDA, give the address of PyTorch's CPU wheels.
ARG TORCH_INDEX_URL=""
WORKDIR /src
COPY constraints.txt ./
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir -c constraints.txt \
        ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} torch torchvision
COPY pyproject.toml README.md LICENSE ./
COPY models models
COPY service service
RUN /venv/bin/pip install --no-cache-dir -c constraints.txt .

FROM python:3.12-slim
RUN useradd --system --uid 10001 --no-create-home detserve
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DETSERVE_HOST=0.0.0.0 \
    DETSERVE_DRAIN_DELAY_S=5
USER detserve
WORKDIR /models
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
ENTRYPOINT ["detserve"]
CMD ["serve"]
