import numpy as np
import pytest
import torch

from client.batches import collate
from client.choices import LabelPrior, build_trie
from client.dataset import Example
from client.errors import RecordError
from model.layers import Linear
from model.loss import cross_entropy

END = 0
CHOICES = [[5, 6, END], [5, END], [7, 8, 9, END], [5, 6, 7, END]]


def example(prompt: list[int], target: list[int]) -> Example:
    learnt = [False] * len(prompt) + [True] * len(target)
    return Example(np.array(prompt + target, np.int32), np.array(learnt), len(prompt), "", 0)


def test_trie_leads_every_choice_to_its_own_end() -> None:
    trie = build_trie(CHOICES)
    assert [int(trie.choice[trie.path(choice)[-1]]) for choice in CHOICES] == [0, 1, 2, 3]
    assert trie.depth == 4
    assert trie.tokens[trie.children(np.array([0]))].tolist() == [5, 7]
    assert len(trie.path([5, 9])) == 2


@pytest.mark.parametrize("choices", [[], [[1, END], [1, END]]])
def test_empty_and_repeated_lists_are_refused(choices: list[list[int]]) -> None:
    with pytest.raises(RecordError, match="empty or holds the same choice twice"):
        build_trie(choices)


def test_prior_is_the_log_of_smoothed_counts_over_their_mean_at_every_branch() -> None:
    own = [CHOICES[0]] * 6 + [CHOICES[1]] * 2 + [CHOICES[2]]
    correction = LabelPrior(build_trie(CHOICES), own).correction(CHOICES[0])
    expected = {
        (0, 5): np.log(8.5 / 5.0),
        (0, 7): np.log(1.5 / 5.0),
        (1, 6): np.log(6.5 / 4.5),
        (1, END): np.log(2.5 / 4.5),
        (2, END): np.log(6.5 / 3.5),
        (2, 7): np.log(0.5 / 3.5),
    }
    found = dict(zip(zip(correction.offsets.tolist(), correction.columns.tolist(), strict=True), correction.values.tolist(), strict=True))
    assert found == pytest.approx(expected)


def test_target_outside_the_list_is_corrected_only_as_far_as_it_is_in_the_trie() -> None:
    prior = LabelPrior(build_trie(CHOICES), [CHOICES[0], [7, 3, END]])
    assert set(prior.correction([7, 3, END]).offsets.tolist()) == {0}


def test_equal_counts_change_nothing() -> None:
    """A balanced institution trains with plain cross-entropy where branches are balanced too."""
    flat = [[1, END], [2, END], [3, END]]
    assert LabelPrior(build_trie(flat), flat).correction(flat[0]).values == pytest.approx([0, 0, 0])


def test_batch_adjusts_the_logits_of_the_right_target_positions() -> None:
    prior = LabelPrior(build_trie(CHOICES), [CHOICES[0]] * 3 + [CHOICES[2]])
    examples = [example([11, 12, 13], CHOICES[2]), example([14], CHOICES[0])]
    batch = collate(examples, torch.device("cpu"), lambda one: prior.correction(one.tokens[one.prompt_length :].tolist()))
    assert batch.valid.sum(1).tolist() == [7, 4]
    assert batch.targets[1].tolist() == [-100, 5, 6, END, -100, -100, -100]
    logits = torch.zeros(7, 16)  # one row per target token
    plain = torch.cat([torch.tensor(CHOICES[2]), torch.tensor(CHOICES[0])])
    adjusted = logits.clone()
    for start, choice in ((0, CHOICES[2]), (4, CHOICES[0])):
        correction = prior.correction(choice)
        for offset, column, value in zip(correction.offsets, correction.columns, correction.values, strict=True):
            adjusted[start + offset, column] += value
    wanted = torch.nn.functional.cross_entropy(adjusted, plain, reduction="sum")
    head = Linear(16, 16, bias=False)
    torch.nn.init.eye_(head.weight)
    assert torch.allclose(cross_entropy(logits, head, plain, batch.adjustment), wanted)
