"""`consortium coordinator serve`."""

from __future__ import annotations

from pathlib import Path

from coordinator.cli.options import HomeOption


def serve(home: HomeOption = Path()) -> None:
    """Run the operator's side until it is interrupted: SuperLink, fence, registry service, and one process for each run."""
    import os
    import signal
    import sys

    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # before it is imported: every peer without a certificate is a line that is no JSON
    from coordinator.operator_home import open_operator_home
    from coordinator.serve.serving import serve as serve_home
    from protocols.logs import write_logs
    from protocols.proxies import without_proxy

    os.environ.update(without_proxy(os.environ))
    ended: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: ended.append(received))
    log = write_logs("coordinator", sys.stderr)
    serve_home(open_operator_home(home), os.environ, lambda: bool(ended), log.info)
