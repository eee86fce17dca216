"""A product of one token is the same on any number of threads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F

from model import one_row
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
def test_blocks_of_rows_give_the_product(threads: int, rows: int, dtype: torch.dtype) -> None:
    layer, x = Linear(256, rows, bias=False).to(dtype), torch.randn(1, 1, 256, dtype=dtype)
    with torch.no_grad():
        assert one_row.divides(x, layer.weight) == (rows % threads == 0)
        assert layer(x).shape == (1, 1, rows)
        assert relative_error(layer(x).float(), F.linear(x, layer.weight).float()) < (1e-5 if dtype == torch.float32 else 1e-2)


def test_it_is_for_one_row_of_a_large_weight_without_gradients() -> None:
    weight = torch.randn(512, 256)
    assert not one_row.divides(torch.randn(1, 256), weight)
    with torch.no_grad():
        assert one_row.divides(torch.randn(1, 256), weight)
        assert not one_row.divides(torch.randn(2, 256), weight)
        assert not one_row.divides(torch.randn(0, 256), weight)
        assert not one_row.divides(torch.randn(1, 16), weight[:, :16])
