# docker build -t lle_jax .
# docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" lle_jax enhance clinic -o better
FROM python:3.13-slim AS build
WORKDIR /wheels
COPY . source
RUN pip wheel --no-cache-dir --no-deps ./source

FROM python:3.13-slim
RUN --mount=from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir -c /wheels/source/constraints.txt /wheels/*.whl \
    && useradd --create-home lle
# compiled programs; writable also for the user of --user, who has no home here
ENV XDG_CACHE_HOME=/tmp
USER lle
WORKDIR /data
ENTRYPOINT ["lle"]
