# docker build -t lle_jax .
# docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" lle_jax enhance clinic -o better
FROM python:3.13-slim AS build
COPY . /src
RUN pip wheel --no-cache-dir --no-deps -w /wheels /src

FROM python:3.13-slim
COPY constraints.txt /tmp/constraints.txt
COPY --from=build /wheels /tmp/wheels
RUN pip install --no-cache-dir -c /tmp/constraints.txt /tmp/wheels/*.whl \
    && rm -r /tmp/wheels /tmp/constraints.txt \
    && useradd --create-home lle
# compiled programs; writable also for the user of --user, who has no home here
ENV XDG_CACHE_HOME=/tmp
USER lle
WORKDIR /data
ENTRYPOINT ["lle"]
