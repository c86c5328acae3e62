# datablame with torch for the CPU: docker run --rm -v "$PWD:/data" datablame audit photos/
FROM python:3.12-slim
RUN pip install --no-cache-dir uv
WORKDIR /src
COPY pyproject.toml setup.py README.md LICENSE ./
COPY src src
RUN uv pip install --system --no-cache --torch-backend cpu ".[review,hub]" && rm -rf /src
RUN useradd --create-home --uid 1000 somebody
USER somebody
WORKDIR /data
# What runs refer to must outlive the container.
ENV DATABLAME_CACHE=/data/.datablame
ENTRYPOINT ["datablame"]
CMD ["--help"]
