"""Records made of books: prose, keywords, related words, topics and rough spelling, each a prompt and what follows it."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from model.pretraining.books import Passage
from model.pretraining.noise import recase, roughen
from model.pretraining.topics import Topics
from model.text.tokenizer import Tokenizer

IGNORED = -100
_SHORT, _LONG = 5, 32  # words of an excerpt
_SOURCES = ("passage", "excerpt", "lines", "sentence", "words")
_SEPARATORS = ("_", "_", " ", "-", ", ")
_PIECES = re.compile(r"[A-Za-z']+|\d+|[.,;?!]")


@dataclass(frozen=True, slots=True)
class Drawn:
    """Token ids and, for each, itself as a target or `IGNORED`."""

    ids: list[int]
    targets: list[int]


class RecordTasks:
    """Draws records; everything random comes from `rng`."""

    def __init__(self, passages: Sequence[Passage], topics: Topics, tokenizer: Tokenizer, prompt_share: float, rng: random.Random) -> None:
        self._passages, self._topics, self._tokenizer = passages, topics, tokenizer
        self._prompt_share, self._rng = prompt_share, rng

    def draw(self, task: str) -> Drawn:
        """One record of the named task: prose, keywords, related, topic or clean."""
        number = self._rng.randrange(len(self._passages))
        if task == "prose":
            return self._prose(number)
        if task == "clean":
            return self._clean(number)
        return self._about(number, task)

    def _prose(self, number: int) -> Drawn:
        text = " ".join(passage.text for passage in self._passages[number : number + 2])
        ids = [*self._tokenizer.encode(text)[:111], self._tokenizer.eos_token_id]
        return Drawn(ids, list(ids))

    def _clean(self, number: int) -> Drawn:
        excerpt = " ".join(_PIECES.findall(self._excerpt(number, 3, 14)))
        rough = recase(roughen(excerpt, self._rng.choice((0.1, 0.3, 0.5)), self._rng), self._rng, upper=0.4, lower=0.3)
        return self._record("rough", rough, "clean", excerpt.lower(), learn_prompt=False)

    def _about(self, number: int, task: str) -> Drawn:
        excerpt = self._excerpt(number, _SHORT, _LONG)
        kind, answer = getattr(self, f"_{task}")(number, excerpt)
        rough = self._rng.random() < 0.15
        shown = recase(roughen(excerpt, 0.15, self._rng) if rough else excerpt, self._rng, upper=0.05, lower=0.3)
        return self._record(self._rng.choice(_SOURCES), shown, kind, answer, learn_prompt=not rough)

    def _keywords(self, number: int, excerpt: str) -> tuple[str, str]:
        """The excerpt's rarest words, in its order."""
        vocabulary = self._topics.vocabulary
        known = vocabulary.known(excerpt)
        rarest = sorted(known, key=lambda word: -vocabulary.weight[vocabulary.index[word]])[: self._rng.randint(1, 3)]
        return "keywords", self._rng.choice(_SEPARATORS).join(word for word in known if word in rarest)

    def _related(self, number: int, excerpt: str) -> tuple[str, str]:
        return "related", ", ".join(self._topics.related[number][: self._rng.randint(2, 8)])

    def _topic(self, number: int, excerpt: str) -> tuple[str, str]:
        """The passage's topic in one of the divisions, each of which has a field name and a way of writing."""
        which = self._rng.randrange(len(self._topics.divisions))
        division = self._topics.divisions[which]
        kind, separator = (("topic", "_"), ("theme", " "), ("subject", "-"), ("class", "_"))[which]
        return kind, separator.join(division.names[division.assignment[number]])

    def _excerpt(self, number: int, fewest: int, most: int) -> str:
        sentences = self._passages[number].sentences
        words = " ".join(sentences[self._rng.randrange(len(sentences)) :]).split()
        return " ".join(words[: self._rng.randint(fewest, most)])

    def _record(self, field: str, text: str, answer_field: str, answer: str, learn_prompt: bool) -> Drawn:
        prompt = self._tokenizer.encode(f"{field}: {text}\n{answer_field}:")
        answer_ids = [*self._tokenizer.encode(f" {answer}"), self._tokenizer.eos_token_id]
        share = self._prompt_share if learn_prompt else 0.0
        learnt = [token if self._rng.random() < share else IGNORED for token in prompt]
        return Drawn(prompt + answer_ids, learnt + answer_ids)
