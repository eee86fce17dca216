# One image for all of a consortium's processes; what it does is the command. No key and no setting is in it.
FROM python:3.11-slim AS build
WORKDIR /source
RUN python -m venv /opt/consortium
ENV PATH=/opt/consortium/bin:$PATH PIP_NO_CACHE_DIR=1
RUN pip install torch==2.13.0
COPY pyproject.toml README.md LICENSE ./
COPY consortium consortium
COPY protocols protocols
COPY model model
COPY client client
COPY coordinator coordinator
RUN pip install ".[postgresql]"

FROM python:3.11-slim
# Three users, so that a SuperNode reads nothing of its node: 10001 the operator, 10002 SuperNodes, 10003 nodes.
RUN groupadd --gid 10001 consortium-operator && useradd --uid 10001 --gid 10001 --no-create-home consortium-operator \
 && groupadd --gid 10002 consortium-supernode && useradd --uid 10002 --gid 10002 --no-create-home consortium-supernode \
 && groupadd --gid 10003 consortium-node && useradd --uid 10003 --gid 10003 --no-create-home consortium-node
COPY --from=build /opt/consortium /opt/consortium
ENV PATH=/opt/consortium/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10003:10003
ENTRYPOINT ["consortium"]
CMD ["--help"]
