# The images of Imagewright: executor (default), executor-debug, operator. Built by the engine itself:
#   imagewright build --target executor --destination registry.example.com/imagewright/executor:0.1.0

FROM debian:trixie-slim AS python
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 python3-pip ca-certificates \
 && rm -rf /var/lib/apt/lists/*
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_BREAK_SYSTEM_PACKAGES=1

FROM python AS wheel
COPY requirements/build.lock /src/requirements/
RUN pip install -q --ignore-installed --require-hashes -r /src/requirements/build.lock
COPY pyproject.toml README.md LICENSE /src/
COPY builder /src/builder
COPY operator /src/operator
RUN pip wheel -q --no-deps --no-build-isolation -w /wheel /src

# Everything the engine needs, in one folder: so that a build may replace all the rest (the root sandbox).
FROM python AS userland
RUN apt-get update \
 && apt-get install -y --no-install-recommends git openssh-client busybox-static \
 && rm -rf /var/lib/apt/lists/*
# Folders that scripts of kaniko's users write into, and for the image with a shell its company, where kaniko has it.
RUN mkdir -p /skeleton/kaniko/.docker /skeleton/kaniko/ssl/certs /skeleton/tmp /debug/bin /debug/busybox \
 && chmod 1777 /skeleton/tmp \
 && cp /usr/bin/busybox /debug/busybox/busybox \
 && for applet in $(busybox --list); do [ "$applet" = busybox ] || ln -s busybox "/debug/busybox/$applet"; done \
 && ln -s /busybox/sh /debug/bin/sh
COPY requirements/runtime.lock /src/
RUN pip install -q --require-hashes -r /src/runtime.lock
COPY --from=wheel /wheel /wheel
RUN pip install -q --no-deps /wheel/*.whl \
 && rm -r /usr/local/lib/python3*/dist-packages/imagewright_operator /usr/local/lib/python3*/dist-packages/imagewright_kubectl \
 && apt-get purge -y python3-pip >/dev/null
COPY images /src/images
RUN python3 /src/images/relocate.py /imagewright \
 && python3 -m compileall -q /imagewright/usr/local/lib/python3*/dist-packages /imagewright/usr/lib/python3.* \
 && touch /imagewright/executor-image

FROM scratch AS executor
COPY --from=userland /imagewright /imagewright
COPY --from=userland /skeleton /
COPY images/passwd images/group /etc/
COPY images/executor images/warmer /kaniko/
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/kaniko:/imagewright/usr/bin \
    LD_LIBRARY_PATH=/imagewright/libraries \
    HOME=/root \
    DOCKER_CONFIG=/kaniko/.docker \
    IMAGEWRIGHT_DIR=/kaniko \
    SSL_CERT_FILE=/imagewright/etc/ssl/certs/ca-certificates.crt \
    SSL_CERT_DIR=/kaniko/ssl/certs \
    GIT_SSL_CAINFO=/imagewright/etc/ssl/certs/ca-certificates.crt \
    OPENSSL_CONF=/imagewright/etc/ssl/openssl.cnf \
    GIT_EXEC_PATH=/imagewright/usr/lib/git-core \
    GIT_TEMPLATE_DIR=/imagewright/usr/share/git-core/templates
WORKDIR /workspace
ENTRYPOINT ["/kaniko/executor"]

FROM executor AS executor-debug
COPY --from=userland /debug /
ENV PATH=$PATH:/busybox

FROM python AS operator
COPY requirements/operator.lock /src/
RUN pip install -q --require-hashes -r /src/operator.lock && rm -r /src
COPY --from=wheel /wheel /wheel
RUN pip install -q --no-deps /wheel/*.whl && rm -r /wheel
USER 1000:1000
ENV PYTHONUNBUFFERED=1
ENTRYPOINT ["python3", "-m", "imagewright_operator"]
