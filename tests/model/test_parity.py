"""Logits, loss, every gradient and greedy tokens equal transformers' own DeepseekV3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from model.checkpoint import disk_tensors, load_checkpoint, save_checkpoint
from tests.model.configurations import VARIANTS, random_network, random_tokens, relative_error

transformers = pytest.importorskip("transformers")


@pytest.fixture(params=VARIANTS)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, Any]:
    """Our network, and transformers' reading of the directory that we wrote."""
    net = random_network(**VARIANTS[request.param])
    save_checkpoint(net, tmp_path / "checkpoint")
    theirs = transformers.DeepseekV3ForCausalLM.from_pretrained(tmp_path / "checkpoint", dtype=torch.float32)
    return net, theirs.train()


def test_logits_loss_and_every_gradient(pair: tuple[Any, Any]) -> None:
    net, theirs = pair
    tokens = random_tokens(1, 3, 40)
    targets = tokens.clone()
    targets[:, :5] = -100
    expected = theirs(input_ids=tokens, labels=targets)
    expected.loss.backward()
    loss = net.loss(tokens, targets)
    loss.total.backward()
    assert relative_error(net(tokens).logits, expected.logits) < 1e-4
    assert relative_error(loss.main, expected.loss) < 1e-4
    ours = {name: parameter.grad for name, parameter in net.named_parameters()}
    for name, parameter in theirs.named_parameters():
        if parameter.grad is not None:
            assert relative_error(ours[name], parameter.grad) < 1e-4, name


def test_greedy_tokens(pair: tuple[Any, Any]) -> None:
    net, theirs = pair
    tokens = random_tokens(2, 2, 9)
    expected = theirs.eval().generate(tokens, max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0)
    assert torch.equal(net.generate(tokens, 12), expected)


def test_left_padding_changes_nothing(pair: tuple[Any, Any]) -> None:
    net, _ = pair
    tokens = random_tokens(3, 1, 9)
    padded = torch.cat([torch.zeros(1, 4, dtype=torch.long), tokens], 1)
    mask = torch.cat([torch.zeros(1, 4, dtype=torch.long), torch.ones_like(tokens)], 1)
    alone, beside = net.generate(tokens, 6), net.generate(padded, 6, attention_mask=mask)
    assert torch.equal(alone[:, 9:], beside[:, 13:])


def test_a_directory_of_theirs_is_read(pair: tuple[Any, Any], tmp_path: Path) -> None:
    net, theirs = pair
    theirs.save_pretrained(tmp_path / "theirs")
    again = load_checkpoint(tmp_path / "theirs")
    for name, tensor in disk_tensors(again):
        assert torch.equal(tensor, dict(disk_tensors(net))[name]), name
