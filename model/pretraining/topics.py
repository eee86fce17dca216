"""What passages are about, found without labels: latent semantic analysis (Deerwester et al. 1990) and k-means on top of it."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.pretraining.books import Passage

KEYWORDS = 12  # words kept per passage and per topic
_WORD = re.compile(r"[a-z]+")
_ANY_CASE = re.compile(r"[A-Za-z]+")
_RAREST = 15  # a word in fewer passages is left out
_OVERSAMPLING, _MEANS_STEPS = 32, 20


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Content words: their index and inverse document frequency."""

    index: dict[str, int]
    weight: Tensor

    @property
    def words(self) -> list[str]:
        return list(self.index)

    def known(self, text: str) -> list[str]:
        """The content words of `text`, in order, each once."""
        return [word for word in dict.fromkeys(_WORD.findall(text.lower())) if word in self.index]


@dataclass(frozen=True, slots=True)
class Topics:
    """Per passage: the words most related to it, best first, whether in it or not, and its topic of each division."""

    vocabulary: Vocabulary
    related: Sequence[Sequence[str]]
    divisions: tuple[Division, ...]


@dataclass(frozen=True, slots=True)
class Division:
    """One clustering of all passages: topic of each passage and a pair of words that names each topic, no two alike."""

    assignment: Sequence[int]
    names: Sequence[tuple[str, str]]


def find_topics(passages: Sequence[Passage], dimensions: int, counts: Sequence[int], common_words: int, seed: int) -> Topics:
    """One division for each number of topics in `counts`, from an LSA of rank `dimensions` without the `common_words` commonest words."""
    vocabulary = _vocabulary(passages, common_words)
    frequencies = _term_matrix(passages, vocabulary)  # [passages, words], sparse
    torch.manual_seed(seed)  # svd_lowrank takes no generator
    left, values, right = torch.svd_lowrank(frequencies, q=dimensions + _OVERSAMPLING, niter=3)
    root = values[:dimensions].sqrt()
    points, axes = left[:, :dimensions] * root, right[:, :dimensions] * root
    generator = torch.Generator().manual_seed(seed)
    divisions = tuple(_divide(points, frequencies, vocabulary.words, count, generator) for count in counts)
    return Topics(vocabulary, _related(points, axes, vocabulary.words), divisions)


def _vocabulary(passages: Sequence[Passage], common_words: int) -> Vocabulary:
    spread: Counter[str] = Counter()
    capital: Counter[str] = Counter()
    small: Counter[str] = Counter()
    for passage in passages:
        for word in _ANY_CASE.findall(passage.text):
            (capital if word[0].isupper() else small)[word.lower()] += 1
        spread.update(set(_WORD.findall(passage.text.lower())))
    common = {word for word, _ in spread.most_common(common_words)}
    kept = [w for w, n in sorted(spread.items()) if n >= _RAREST and w not in common and len(w) > 2 and small[w] > 2 * capital[w]]
    weight = torch.tensor([math.log(len(passages) / spread[word]) for word in kept])
    return Vocabulary({word: i for i, word in enumerate(kept)}, weight)


def _term_matrix(passages: Sequence[Passage], vocabulary: Vocabulary) -> Tensor:
    rows, columns, counts = [], [], []
    for row, passage in enumerate(passages):
        found = Counter(word for word in _WORD.findall(passage.text.lower()) if word in vocabulary.index)
        rows += [row] * len(found)
        columns += [vocabulary.index[word] for word in found]
        counts += [1 + math.log(count) for count in found.values()]
    row_index, column_index = torch.tensor(rows), torch.tensor(columns)
    values = torch.tensor(counts) * vocabulary.weight[column_index]
    norms = torch.zeros(len(passages)).index_add_(0, row_index, values.square()).sqrt().clamp(min=1e-6)
    shape = (len(passages), len(vocabulary.index))
    indices = torch.stack([row_index, column_index])
    return torch.sparse_coo_tensor(indices, values / norms[row_index], shape, check_invariants=True).coalesce()


def _related(points: Tensor, axes: Tensor, words: Sequence[str]) -> list[list[str]]:
    related = []
    for block in points.split(4096):
        best = (block @ axes.T).topk(KEYWORDS, dim=1).indices
        related += [[words[j] for j in row] for row in best.tolist()]
    return related


def _divide(points: Tensor, frequencies: Tensor, words: Sequence[str], count: int, generator: torch.Generator) -> Division:
    """Spherical k-means; a topic's name is made of the words that are most its own."""
    directions = points / points.norm(dim=1, keepdim=True).clamp(min=1e-6)
    centres = directions[torch.randperm(len(points), generator=generator)[:count]]
    for _ in range(_MEANS_STEPS):
        nearest = torch.cat([(block @ centres.T).argmax(1) for block in directions.split(8192)])
        centres = torch.zeros_like(centres).index_add_(0, nearest, directions)
        centres = centres / centres.norm(dim=1, keepdim=True).clamp(min=1e-6)
    return Division(nearest.tolist(), _names(nearest, frequencies, words, count))


def _names(nearest: Tensor, frequencies: Tensor, words: Sequence[str], count: int) -> list[tuple[str, str]]:
    rows, columns = frequencies.indices()
    mass = torch.zeros(count, len(words))
    mass.index_put_((nearest[rows], columns), frequencies.values(), accumulate=True)
    mass = mass / torch.bincount(nearest, minlength=count).clamp(min=1)[:, None]
    overall = mass.mean(0)
    best = (mass / (overall + overall.mean()) ** 0.3).topk(KEYWORDS, dim=1).indices.tolist()
    taken: set[frozenset[str]] = set()
    names = []
    for row in best:
        name = next(pair for pair in _pairs([words[j] for j in row]) if frozenset(pair) not in taken)
        taken.add(frozenset(name))
        names.append(name)
    return names


def _pairs(ranked: Sequence[str]) -> list[tuple[str, str]]:
    return [(ranked[i], ranked[j]) for j in range(1, len(ranked)) for i in range(j)]
