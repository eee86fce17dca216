"""Our messages inside Flower's: one signed envelope as bytes, and arrays beside it that the envelope's payload hashes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage
from numpy.typing import NDArray

from protocols.errors import ConsortiumError

_TYPES = {"uint8": "|u1", "uint32": "<u4", "float32": "<f4"}


class WireError(ConsortiumError):
    """A message that does not have the form which both sides agreed on."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """A signed envelope's bytes, and the arrays (uint8, uint32 or float32) that travel outside of it."""

    envelope: bytes
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)


def to_record(parcel: Parcel, arrays: ArrayRecord | None = None) -> RecordDict:
    """The parcel as Flower's records; `arrays` are its arrays if they are encoded already, as for a message to many."""
    encoded = to_arrays(parcel.arrays) if arrays is None else arrays
    envelope = {"envelope": ConfigRecord({"bytes": parcel.envelope})}
    # Flower moves each record in a request of its own, and most messages have no arrays.
    return RecordDict(envelope | {"arrays": encoded} if encoded else envelope)


def to_arrays(arrays: Mapping[str, NDArray[Any]]) -> ArrayRecord:
    """Arrays as raw little-endian bytes: Flower chunks them, and nothing is pickled."""
    return ArrayRecord(array_dict={name: _to_array(values) for name, values in arrays.items()})


def from_record(record: RecordDict) -> Parcel:
    """Takes a parcel out of Flower's records; WireError for anything that `to_record` does not make."""
    try:
        envelope = record.config_records["envelope"]["bytes"]
        arrays = {name: _from_array(array) for name, array in record.array_records.get("arrays", {}).items()}
    except (KeyError, TypeError, ValueError):
        raise WireError("a message is not in the expected form; both sides must run the same version") from None
    finally:
        release(record)
    if not isinstance(envelope, bytes):
        raise WireError("a message has no envelope; both sides must run the same version")
    return Parcel(envelope, arrays)


def release(record: RecordDict) -> None:
    """Lets go of a record's arrays: Flower's records are reference cycles, whose vectors would wait for the garbage collector."""
    for arrays in record.array_records.values():
        arrays.clear()


def serialize(message: Message) -> bytes:
    """The message as Flower's protobuf."""
    data: bytes = message_to_proto(message).SerializeToString()
    return data


def deserialize(data: bytes) -> Message:
    """The inverse of `serialize`."""
    return message_from_proto(ProtoMessage.FromString(data))


def _to_array(values: NDArray[Any]) -> Array:
    kind = _TYPES[values.dtype.name]
    return Array(values.dtype.name, tuple(values.shape), "raw", np.ascontiguousarray(values, kind).tobytes())


def _from_array(array: Array) -> NDArray[Any]:
    if array.stype != "raw":
        raise ValueError(array.stype)
    return np.frombuffer(array.data, _TYPES[array.dtype]).reshape(array.shape)
