"""What was asked once is asked alike for ever."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.errors import JobError
from coordinator.outbox import Outbox

REQUESTS = st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["one", "two"]), min_size=1)


@given(asked=st.lists(REQUESTS, max_size=5))
def test_no_recipient_is_asked_in_two_ways(tmp_path_factory: pytest.TempPathFactory, asked: list[dict[str, str]]) -> None:
    folder, said = tmp_path_factory.mktemp("requests"), dict[str, str]()
    for requests in asked:
        outbox = Outbox(folder)  # of another process each time
        if any(said.get(name, request) != request for name, request in requests.items()):
            with pytest.raises(JobError, match="in two ways"):
                outbox.keep("question", 1, 5.0, requests)
        else:
            outbox.keep("question", 1, 5.0, requests)
            said |= requests


def test_questions_are_kept_apart(tmp_path: Path) -> None:
    Outbox(tmp_path).keep("run/1/update/1", 1, 5.0, {"ada": "one"})
    Outbox(tmp_path).keep("run/1/update/2", 2, 5.0, {"ada": "two"})
    assert len(list(tmp_path.iterdir())) == 2
