# A server of a trained model, with everything else of the package.
#   docker build -t maskrcnn-jax .
#   docker build -t maskrcnn-jax:cuda --build-arg JAX='jax[cuda13]' .
#   docker run --rm -p 8000:8000 -v "$PWD/runs/mine:/model:ro" maskrcnn-jax
FROM python:3.12-slim

# jax: CPU; jax[cuda12], jax[cuda13]: NVIDIA GPUs, whose libraries come with it (docker run --gpus all).
ARG JAX=jax

ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

WORKDIR /opt/maskrcnn_jax
# What changes rarely first, so that a change of the code does not install it again.
COPY requirements*.txt ./
RUN pip install -r requirements-light.txt "$JAX"
COPY pyproject.toml setup.py README.md LICENSE ./
COPY maskrcnn_jax maskrcnn_jax
COPY configs configs
# The versions are those of pyproject.toml.
# hadolint ignore=DL3013
RUN pip install ".[serve,hub,export]" && useradd --uid 1000 --create-home detector

USER 1000
WORKDIR /home/detector
EXPOSE 8000
HEALTHCHECK --start-period=300s CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health', timeout=5)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["maskrcnn-serve", "--host=0.0.0.0"]
CMD ["/model"]
