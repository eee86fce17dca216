"""Keys for what others speak: made once, of the randomness given, read by OpenSSH's and OpenSSL's forms, never open to others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from hypothesis import given
from hypothesis import strategies as st

from protocols.curve_keys import NODE_CURVE, TLS_CURVE, check_node_key, load_tls_key, new_key, node_key, openssh_public, tls_key
from protocols.errors import ConsortiumError


@given(st.binary(min_size=40, max_size=40))
def test_every_draw_is_a_key(draw: bytes) -> None:
    value = new_key(TLS_CURVE, lambda count: draw[:count]).private_numbers().private_value
    assert 0 < value < TLS_CURVE.group_order


def test_keys_are_made_once(tmp_path: Path) -> None:
    made = tls_key(tmp_path / "tls.key", os.urandom), node_key(tmp_path / "node.key", os.urandom)
    again = tls_key(tmp_path / "tls.key", os.urandom), node_key(tmp_path / "node.key", os.urandom)
    assert [key.private_numbers() for key in made] == [key.private_numbers() for key in again]
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {"tls.key": 0o600, "node.key": 0o600}
    assert load_ssh_private_key((tmp_path / "node.key").read_bytes(), None).public_key() == made[1].public_key()


def test_a_node_key_has_one_form() -> None:
    line = openssh_public(new_key(NODE_CURVE, os.urandom))
    check_node_key(line)
    for other in (f"{line} comment", f"{line}\n", line[:-4], "", openssh_public(new_key(TLS_CURVE, os.urandom)), "ssh-ed25519 AAAA", "é"):
        with pytest.raises(ConsortiumError, match="P-384"):
            check_node_key(other)


def test_keys_that_are_damaged_or_open_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tls.key"
    with pytest.raises(ConsortiumError, match="cannot be read"):
        load_tls_key(path)
    tls_key(path, os.urandom)
    path.chmod(0o640)
    with pytest.raises(ConsortiumError, match="chmod 600"):
        load_tls_key(path)
    path.chmod(0o600)
    path.write_bytes(b"no key")
    with pytest.raises(ConsortiumError, match="no key of the kind"):
        load_tls_key(path)
