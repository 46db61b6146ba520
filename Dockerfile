# One image for every process of NI; docker-compose.yml says which process a container runs.
FROM python:3.12-slim-bookworm AS build
RUN python -m venv /opt/ni
WORKDIR /src
COPY requirements.txt ./
RUN /opt/ni/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements.txt
COPY pyproject.toml requirements.in README.md ./
COPY ni ni
COPY api api
COPY workers workers
COPY migrations migrations
RUN /opt/ni/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.12-slim-bookworm
RUN useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin ni
COPY --from=build /opt/ni /opt/ni
ENV PATH=/opt/ni/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /
CMD ["ni", "--help"]
