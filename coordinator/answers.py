"""What institutions answer to a run's plan: taken from their greetings, kept in the registry, and waited for before the first round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from coordinator.attending import revoked
from coordinator.link import Reply
from coordinator.members import Members
from coordinator.registry.records import Answer
from coordinator.registry.registry import Registry
from protocols.acceptance import Acceptance
from protocols.errors import ConsortiumError, SignatureError
from protocols.plan import Plan


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers to one run's plan."""

    registry: Registry
    members: Members
    run: str
    plan: Plan

    def take(self, greetings: Mapping[str, Reply], refused: Mapping[str, str]) -> dict[str, str]:
        """Records every answer that is not the institution's last one, and returns who greeted without a right to take part, and why.

        Args:
            refused: institution -> its own signed words.
        """
        wrong, answers = dict[str, str](), [Answer(name, False, reason, "", "") for name, reason in sorted(refused.items())]
        for name, reply in sorted(greetings.items()):
            try:
                answers.append(self._accepted(name, reply))
            except ConsortiumError as error:
                wrong[name] = str(error)
        gone = self.revoked()
        wrong |= {answer.institution: gone[answer.institution] for answer in answers if answer.institution in gone}
        self._record([answer for answer in answers if answer.institution not in wrong])
        return wrong

    def revoked(self) -> dict[str, str]:
        """Institutions that the operator revoked and did not approve again, and why."""
        return {one.name: revoked(one) for one in self.registry.participants() if one.revoked_at is not None}

    def _accepted(self, name: str, reply: Reply) -> Answer:
        """An institution accepts once, so that the signature may be of a key that it had before."""
        signed, keys = Acceptance.from_bytes(reply.part("acceptance")), self.members.parties.keys_of(name)
        for former in keys[1:]:
            with suppress(SignatureError):
                signed.check(self.run, self.plan, name, former)
                break
        else:
            signed.check(self.run, self.plan, name, keys[0])
        return Answer(name, True, "", signed.to_bytes().hex(), signed.signature.hex())

    def _record(self, answers: Sequence[Answer]) -> None:
        """Keeps what is new. Of acceptances the first: nobody may write into the registry for good with every greeting."""
        before = {answer.institution: answer for answer in self.registry.answers(self.run)}
        for answer in answers:
            earlier = before.get(answer.institution)
            is_known = earlier is not None and (_said(earlier) == _said(answer) or (earlier.accepted and answer.accepted))
            if not is_known:
                self.registry.record_answer(self.run, answer)


def answer_lines(answers: Sequence[Answer], roster: Sequence[str]) -> list[str]:
    """One line for each institution of the roster, for people."""
    said = {answer.institution: answer for answer in answers}
    return [_line(name, said.get(name)) for name in sorted({*roster, *said})]


def _line(name: str, answer: Answer | None) -> str:
    if answer is None:
        return f"{name}: no answer yet"
    if not answer.accepted:
        return f"{name}: no ({answer.reason})"
    return f"{name}: accepted, signed {_signed_at(answer)}"


def _signed_at(answer: Answer) -> str:
    try:
        return Acceptance.from_bytes(bytes.fromhex(answer.statement)).at
    except (ValueError, ConsortiumError):
        return "in a form that cannot be read"


def _said(answer: Answer) -> tuple[bool, str, str]:
    return answer.accepted, answer.reason, answer.statement
