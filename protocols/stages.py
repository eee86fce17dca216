"""Which requests a node answers once, so that two different ones under one subject are a contradiction and not a repetition."""

from __future__ import annotations

# The stored answer goes out again, and an honest coordinator asks again with the same bytes. Every other request may differ each time
# that it is sent: it asks for another part, shows other chunks, or comes to an institution that has moved on.
ANSWERED_ONCE = frozenset(
    {
        "query.epoch_keys",
        "query.epoch_shares",
        "query.epoch_confirm",
        "train.sum",
        "evaluate.sum",
        "query.survivors",
        "query.unmask",
    }
)
