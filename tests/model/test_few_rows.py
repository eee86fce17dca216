"""A product of few tokens is the same on any number of threads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F

from model import few_rows
from model.layers import Linear
from tests.model.configurations import relative_error


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [512, 513, 514])
@pytest.mark.parametrize("tokens", [1, 2, 4])
def test_blocks_of_rows_give_the_product(threads: int, rows: int, tokens: int, dtype: torch.dtype) -> None:
    layer, x = Linear(256, rows, bias=False).to(dtype), torch.randn(1, tokens, 256, dtype=dtype)
    with torch.no_grad():
        assert few_rows.divides(x, layer.weight) == (threads > 1 and rows % threads == 0)
        assert layer(x).shape == (1, tokens, rows)
        assert relative_error(layer(x).float(), F.linear(x, layer.weight).float()) < (1e-5 if dtype == torch.float32 else 1e-2)


@pytest.mark.parametrize("threads", [2], indirect=True)
def test_it_is_for_few_rows_of_a_large_weight_without_gradients(threads: int) -> None:
    weight = torch.randn(512, 256)
    assert not few_rows.divides(torch.randn(1, 256), weight)
    with torch.no_grad():
        assert few_rows.divides(torch.randn(few_rows.FEW, 256), weight)
        assert not few_rows.divides(torch.randn(few_rows.FEW + 1, 256), weight)
        assert not few_rows.divides(torch.randn(0, 256), weight)
        assert not few_rows.divides(torch.randn(1, 16), weight[:, :16])
