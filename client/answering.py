"""From a parcel to the parcel that answers it: envelope checked, handler chosen, answer stored before it leaves."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from client.epochs import announce_keys, confirm, share_secrets
from client.ledger_rows import StoredReply
from client.node import Arrays, Node, Request, Result, logger
from client.states import adopt_state, commit_to, follow_total, hello, take_part
from client.storage import full_disk
from client.sums import masked_part, open_set, send_masked_input, send_part, sign_set
from model.errors import ModelError
from protocols import logs
from protocols.errors import (
    AnotherSet,
    ConsortiumError,
    Contradiction,
    DishonestMember,
    EncodingError,
    PlanError,
    PolicyError,
    ProtocolError,
    Refusal,
    UnacceptedMembers,
)
from protocols.identity import Envelope, open_envelope_of, seal_envelope
from protocols.pack import PackError, pack, unpack
from protocols.stages import ANSWERED_ONCE
from protocols.wire import Parcel

Handler = Callable[[Node, Request], Result]

# What `ANSWERED_ONCE` names is stored: its bytes go out again, and a different request under the same key is refused. The others are
# harmless to repeat: they say or move to what the node computes itself.
HANDLERS: Mapping[str, Handler] = {
    "query.epoch_keys": announce_keys,
    "query.epoch_shares": share_secrets,
    "query.epoch_confirm": confirm,
    "train.sum": send_masked_input,
    "evaluate.sum": send_masked_input,
    "query.survivors": sign_set,
    "query.unmask": open_set,
    "query.hello": hello,
    "query.upload": send_part,
    "query.transcript": commit_to,
    "query.total_part": take_part,
    "query.total": follow_total,
    "query.state": adopt_state,
}
MESSAGE_TYPES = tuple(sorted(HANDLERS))

# The ledger names folders after runs: a run's id must not be able to point anywhere else.
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
# Texts that say something of the request alone. Every other error's may tell of records, settings or paths.
_SPEAKABLE = (Refusal, PolicyError, PlanError, ProtocolError, PackError)


def answer(node: Node, message_type: str, parcel: Parcel) -> Parcel:
    """The signed answer to a signed request; what the node declines is answered with a signed refusal of one sentence.

    Raises:
        Refusal: the request is not from this node's coordinator, or not for this node; it gets no signature.
    """
    envelope = open_envelope_of(parcel.envelope, node.coordinator_key)
    about, _, stage = envelope.stage.partition("/")
    if stage != message_type or envelope.recipient not in ("", node.name):
        raise Refusal(f"a request for {envelope.recipient or 'everyone'} as {envelope.stage} came to {node.name} as {message_type}")
    with logs.about(run=envelope.run, round=envelope.round):
        try:
            _check_run(envelope.run)
            request = _request(envelope, about, message_type, parcel)
            return _decided(node, envelope, request, parcel)
        except Exception as error:
            return sealed(node, envelope, _refused(node, message_type, error))


def _check_run(run: str) -> None:
    if not _RUN.fullmatch(run):
        raise Refusal(
            "a run's id has 1 to 80 letters, digits, dots, dashes and underscores, a letter or digit first; submit the plan again"
        )


def _refused(node: Node, message_type: str, error: Exception) -> Result:
    """The reason, if it tells nothing of this institution; a fact about a vector, as in EncodingError, is one about records."""
    if isinstance(error, _SPEAKABLE) and not isinstance(error, EncodingError):
        logger.warning("request %s is refused: %s", message_type, error, extra={"event": "refused"})
        accused = {"accused": error.member.encode()} if isinstance(error, DishonestMember) else {}
        unaccepted = {"unaccepted": pack(dict.fromkeys(error.members, b""))} if isinstance(error, UnacceptedMembers) else {}
        signed = {"signed_set": pack(dict.fromkeys(error.members, b""))} if isinstance(error, AnotherSet) else {}
        return Result({"refused": str(error).encode()} | accused | unaccepted | signed)
    error = full_disk(error, node.ledger.home) or error
    logger.error("request %s failed: %s", message_type, error, exc_info=None if isinstance(error, ConsortiumError | ModelError) else error)
    reason = f"{node.name} could not answer {message_type} ({type(error).__name__}); its own log says why"
    return Result({"refused": reason.encode()})


def _request(envelope: Envelope, about: str, message_type: str, parcel: Parcel) -> Request:
    parts = unpack(envelope.payload)
    return Request(
        envelope.run, envelope.round, about, envelope.attempt, envelope.manifest_hash, message_type, parts, parcel.arrays,
        parcel.envelope,
    )  # fmt: skip


def _decided(node: Node, envelope: Envelope, request: Request, parcel: Parcel) -> Parcel:
    try:
        if request.message_type in ANSWERED_ONCE:
            return _stored_or_new(node, envelope, request, parcel)
        return sealed(node, envelope, HANDLERS[request.message_type](node, request))
    except Contradiction as contradiction:
        # Here, where the handler's own writes are rolled back already.
        node.ledger.keep_evidence(request.key, parcel.envelope, contradiction.earlier)
        raise


def _stored_or_new(node: Node, envelope: Envelope, request: Request, parcel: Parcel) -> Parcel:
    stored = node.ledger.reply(request.key, parcel.envelope)
    if stored is not None:
        return Parcel(stored.reply, _first_part(node, request))
    if request.message_type.endswith(".sum"):
        result = HANDLERS[request.message_type](node, request)  # commits its own steps: training may take hours
        return _kept(node, envelope, request, parcel, result)
    with node.ledger.transaction():
        return _kept(node, envelope, request, parcel, HANDLERS[request.message_type](node, request))


def _kept(node: Node, envelope: Envelope, request: Request, parcel: Parcel, result: Result) -> Parcel:
    reply = sealed(node, envelope, result)
    node.ledger.keep_reply(request.key, StoredReply(parcel.envelope, reply.envelope))
    return reply


def sealed(node: Node, request: Envelope, result: Result) -> Parcel:
    """A result as it travels: signed by this node, about what was asked."""
    reply = Envelope(
        sender=node.name,
        recipient=request.sender,
        run=request.run,
        round=request.round,
        attempt=request.attempt,
        stage=request.stage,
        manifest_hash=request.manifest_hash,
        incarnation=node.ledger.incarnation,
        payload=pack(result.parts),
    )
    return Parcel(seal_envelope(node.identity, reply), result.arrays)


def _first_part(node: Node, request: Request) -> Arrays:
    """What went out beside the stored answer; nothing once the sum is over."""
    try:
        return masked_part(node, request, 0) if request.message_type.endswith(".sum") else {}
    except (Refusal, ProtocolError):
        return {}
