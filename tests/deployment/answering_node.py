"""A node's process for tests: answers `query.hello` with its name and the request's bytes, slowly if they say so."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from client.flower_node import serve_tasks
from protocols.bundle import installed_bundle
from protocols.wire import Parcel, from_record, to_record

SECRETS = "a record that must not leave"
SLOW_SECONDS = 3.0


def make_app(name: str) -> ClientApp:
    """Answers `name:request`; request `fail` raises."""
    app = ClientApp()

    def hello(message: Message, context: Context) -> Message:
        parcel = from_record(message.content)
        if parcel.envelope == b"fail":
            raise ValueError(SECRETS)
        if parcel.envelope == b"slow":
            time.sleep(SLOW_SECONDS)
        doubled = {key: values * 2 for key, values in parcel.arrays.items()}
        return Message(to_record(Parcel(f"{name}:".encode() + parcel.envelope, doubled)), reply_to=message)

    app.query("hello")(hello)
    return app


def main(name: str, runtime: str, secret: str, alive: str) -> None:
    """Serves until it is killed."""
    allowed = (installed_bundle().sha256,)
    app = make_app(name)
    serve_tasks(
        runtime, Path(secret).read_bytes(), app, allowed, lambda: False, alive=Path(alive), log=lambda text: print(text, flush=True)
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
