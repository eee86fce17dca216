"""What enters an institution's own roster: what a person accepted, or what enough others of it signed for, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from client.institution import FORMER_KEY, Membership, read_membership, write_membership
from client.roster_book import accept, accept_vouched, differences, voucher_for
from client.rotation import NEXT_KEY, rotate
from protocols.errors import ConsortiumError, RosterError
from protocols.fingerprint import fingerprint
from protocols.identity import Identity
from protocols.policy import Policy
from protocols.roster import FormerKey, Roster, RosterEntry
from protocols.roster_offer import OfferedInstitution, Voucher, rotation
from protocols.service import RotateRequest
from tests.federation.attacks.weakened import weakened

TODAY = "2030-01-31"
IDENTITIES = {name: Identity(name, name[:1].encode() * 32) for name in ("ada", "bea", "cyd", "dov")}
NEW = Identity("bea", b"n" * 32)
LENIENT = Policy(accept_vouched=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of ada, on whose roster are bea and cyd."""
    entries = tuple(RosterEntry(name, IDENTITIES[name].public_key) for name in ("ada", "bea", "cyd"))
    write_membership(tmp_path, Membership("ada", Roster(entries), b"o" * 32))
    IDENTITIES["ada"].save(tmp_path / "identity.key")
    return tmp_path


def offered(name: str, key: bytes = b"", **more: object) -> OfferedInstitution:
    one = OfferedInstitution(RosterEntry(name, key or IDENTITIES[name].public_key), "", "", (), ())
    return replace(one, **more)  # type: ignore[arg-type]


def offer(*changed: OfferedInstitution) -> tuple[OfferedInstitution, ...]:
    others = {name: offered(name) for name in ("ada", "bea", "cyd")} | {one.entry.name: one for one in changed}
    return tuple(others[name] for name in sorted(others))


def vouchers(subject: str, key: bytes, *by: str) -> tuple[Voucher, ...]:
    return tuple(Voucher(subject, key, name, b"").signed_by(IDENTITIES[name].sign) for name in by)


def keys(folder: Path) -> dict[str, bytes]:
    return {entry.name: entry.public_key for entry in read_membership(folder).roster.entries}


def test_equal_offer_has_no_difference(folder: Path) -> None:
    assert differences(read_membership(folder), offer()) == ()


def test_new_institution_enters_by_acceptance_with_its_words(folder: Path) -> None:
    words = fingerprint("dov", IDENTITIES["dov"].public_key)
    with pytest.raises(RosterError, match="another key of dov than these words"):
        accept(folder, "dov", offer(offered("dov")), TODAY, fingerprint("dov", NEW.public_key))
    assert "dov" not in keys(folder)
    assert accept(folder, "dov", offer(offered("dov")), TODAY, words.upper().replace("-", " ")).kind == "new"
    assert keys(folder)["dov"] == IDENTITIES["dov"].public_key


def test_new_key_that_the_former_one_signed_is_shown_as_such(folder: Path) -> None:
    between = Identity("bea", b"m" * 32)
    chain = (rotation("bea", IDENTITIES["bea"], between), rotation("bea", between, NEW))
    change = accept(folder, "bea", offer(offered("bea", NEW.public_key, rotations=chain)), TODAY)
    assert (change.kind, change.signed) == ("new key", True)
    membership = read_membership(folder)
    assert membership.roster.key_of("bea") == NEW.public_key
    assert membership.former == (FormerKey("bea", IDENTITIES["bea"].public_key, TODAY),)


@pytest.mark.parametrize(
    "signed",
    [
        (),
        (rotation("bea", IDENTITIES["cyd"], NEW),),
        (replace(rotation("bea", IDENTITIES["bea"], NEW), signature=bytes(64)),),
        (replace(rotation("bea", IDENTITIES["bea"], IDENTITIES["dov"]), new_key=NEW.public_key),),
    ],
)
def test_new_key_without_a_signature_needs_the_words(folder: Path, signed: tuple[object, ...]) -> None:
    swapped = offer(offered("bea", NEW.public_key, rotations=signed))
    with pytest.raises(RosterError, match="did not sign the one that is offered"):
        accept(folder, "bea", swapped, TODAY)
    assert keys(folder)["bea"] == IDENTITIES["bea"].public_key
    assert accept(folder, "bea", swapped, TODAY, fingerprint("bea", NEW.public_key)).signed is False


def test_revoked_institution_leaves_and_its_key_stays_among_the_former(folder: Path) -> None:
    change = accept(folder, "cyd", offer(offered("cyd", revoked="2030-01-30", reason="left")), TODAY)
    assert (change.kind, change.reason, change.fingerprint) == ("revoked", "left", "")
    assert "cyd" not in keys(folder) and read_membership(folder).former[0].name == "cyd"


def test_words_for_a_revoked_institution_are_no_alarm(folder: Path) -> None:
    with pytest.raises(RosterError, match="no key of cyd is offered"):
        accept(folder, "cyd", offer(offered("cyd", revoked="2030-01-30")), TODAY, fingerprint("cyd", IDENTITIES["cyd"].public_key))
    assert "cyd" in keys(folder)
    with pytest.raises(RosterError, match="dan is neither on this roster nor offered"):
        accept(folder, "dan", offer(), TODAY)


def test_own_entry_never_changes_by_an_offer(folder: Path) -> None:
    before = (folder / "roster.toml").read_bytes()
    for one in (offered("ada", NEW.public_key), offered("ada", revoked=TODAY)):
        assert [change.kind for change in differences(read_membership(folder), offer(one))] == ["own"]
        with pytest.raises(RosterError, match="the own entry is never taken from an offer"):
            accept(folder, "ada", offer(one), TODAY, fingerprint("ada", one.entry.public_key))
    signed = vouchers("ada", NEW.public_key, "bea", "cyd")
    assert accept_vouched(folder, LENIENT, offer(offered("ada", NEW.public_key, vouchers=signed)), TODAY) == ()
    assert (folder / "roster.toml").read_bytes() == before


@pytest.mark.parametrize(
    ("by", "counted"),
    [(("bea", "cyd"), 2), (("bea", "bea"), 1), (("bea", "dov"), 1), ((), 0)],  # dov is the subject, and on no roster yet
)
def test_vouchers_count_once_each_from_others_on_the_roster(folder: Path, by: tuple[str, ...], counted: int) -> None:
    key = IDENTITIES["dov"].public_key
    shown = offer(offered("dov", vouchers=vouchers("dov", key, *by)))
    assert len(differences(read_membership(folder), shown)[0].vouched_by) == counted
    assert accept_vouched(folder, Policy(), shown, TODAY) == (), "by default no voucher changes a roster"
    assert len(accept_vouched(folder, LENIENT, shown, TODAY)) == (counted >= 2)
    assert ("dov" in keys(folder)) == (counted >= 2)


def test_voucher_for_another_key_or_by_another_key_counts_not(folder: Path) -> None:
    key = IDENTITIES["dov"].public_key
    forged = Voucher("dov", key, "cyd", b"").signed_by(NEW.sign)
    shown = offer(offered("dov", vouchers=(*vouchers("dov", NEW.public_key, "bea"), forged)))
    assert differences(read_membership(folder), shown)[0].vouched_by == ()


@pytest.mark.parametrize("how", ["rotated", "revoked"])
def test_key_that_was_given_up_does_not_come_back_by_old_vouchers(folder: Path, how: str) -> None:
    """To stand on a roster under a stolen key: the coordinator offers it again, with what others signed for it when it was new."""
    stolen, words = IDENTITIES["cyd"].public_key, fingerprint("cyd", IDENTITIES["cyd"].public_key)
    signed = vouchers("cyd", stolen, "ada", "bea")
    new = Identity("cyd", b"m" * 32)
    if how == "rotated":
        accept(folder, "cyd", offer(offered("cyd", new.public_key, rotations=(rotation("cyd", IDENTITIES["cyd"], new),))), TODAY)
    else:
        accept(folder, "cyd", offer(offered("cyd", revoked=TODAY)), TODAY)
    again, before = offer(offered("cyd", vouchers=signed)), keys(folder)
    with weakened("client.roster_book._was_given_up"):
        assert accept_vouched(folder, LENIENT, again, TODAY) and keys(folder)["cyd"] == stolen
    write_membership(folder, replace(read_membership(folder), roster=Roster(tuple(RosterEntry(*one) for one in sorted(before.items())))))
    assert accept_vouched(folder, LENIENT, again, TODAY) == ()
    with pytest.raises(RosterError, match="did not sign|was on this roster before"):
        accept(folder, "cyd", again, TODAY)
    assert keys(folder) == before
    accept(folder, "cyd", again, TODAY, words)
    assert keys(folder)["cyd"] == stolen, "a person may still say so"


def test_one_vouches_for_keys_of_the_own_roster_alone(folder: Path) -> None:
    voucher_for(folder, "bea").check(IDENTITIES["ada"].public_key)
    with pytest.raises(RosterError, match="dov is not on this roster"):
        voucher_for(folder, "dov")
    with pytest.raises(RosterError, match="cannot vouch for itself"):
        voucher_for(folder, "ada")


class Died(Exception):
    """The process dies here."""


def dying_at(step: int, sent: list[RotateRequest], monkeypatch: pytest.MonkeyPatch) -> Callable[[RotateRequest], object]:
    """Before the request is out, after it, or before the first, second or third file is written afterwards."""
    from client import institution
    from client import rotation as module
    from protocols.files import write_file

    written = iter(range(2, 9))

    def write(*args: object, **options: object) -> None:
        if next(written) == step:
            raise Died
        write_file(*args, **options)  # type: ignore[arg-type]

    def send(request: RotateRequest) -> None:
        if step == 0:
            raise Died
        sent.append(request)
        if step == 1:
            raise Died

    monkeypatch.setattr(module, "write_file", write)
    monkeypatch.setattr(institution, "write_file", write)
    return send


@pytest.mark.parametrize("step", range(5))
def test_rotation_that_was_interrupted_goes_on_with_the_same_key(folder: Path, step: int) -> None:
    sent: list[RotateRequest] = []
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Died):
        rotate(folder, dying_at(step, sent, patch), os.urandom, TODAY)
    pending = Identity.load("ada", folder / NEXT_KEY)
    assert Identity.load("ada", folder / "identity.key").public_key == IDENTITIES["ada"].public_key
    new = rotate(folder, sent.append, os.urandom, TODAY)
    assert new.public_key == pending.public_key == keys(folder)["ada"] and {one.rotation for one in sent} == {sent[0].rotation}
    assert Identity.load("ada", folder / "identity.key").public_key == new.public_key
    assert Identity.load("ada", folder / FORMER_KEY).public_key == IDENTITIES["ada"].public_key
    assert not (folder / NEXT_KEY).exists() and len(read_membership(folder).former) == 1


def test_rotation_that_the_registry_refuses_keeps_the_old_key(folder: Path) -> None:
    def refuse(_: RotateRequest) -> None:
        raise ConsortiumError("no")

    with pytest.raises(ConsortiumError, match="no"):
        rotate(folder, refuse, os.urandom, TODAY)
    assert keys(folder)["ada"] == IDENTITIES["ada"].public_key == Identity.load("ada", folder / "identity.key").public_key
