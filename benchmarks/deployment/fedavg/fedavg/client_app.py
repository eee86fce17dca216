"""A client that answers with a vector of its own."""

from __future__ import annotations

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


def train(message: Message, context: Context) -> Message:  # noqa: ARG001
    """The vector that came, with a little noise."""
    (vector,) = message.content.array_records["arrays"].to_numpy_ndarrays()
    noise = np.random.default_rng().standard_normal(vector.size, np.float32) / 1000
    content = {"arrays": ArrayRecord([vector + noise]), "metrics": MetricRecord({"num-examples": 1})}
    return Message(RecordDict(content), reply_to=message)


app.train()(train)
