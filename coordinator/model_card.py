"""The model card: what a released model was made from, by how many, how good it is, and what was not protected."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from coordinator.absences import absences, spans
from coordinator.gate import Override, final_metric
from coordinator.registry.records import Round, Run
from protocols.plan import Plan
from protocols.privacy.statement import statement
from protocols.sums.evaluate import ACCEPTANCE, WORSE_THAN_ALONE

USE = """\
## Use
```
consortium model generate VERSION_DIRECTORY --prompt "a prompt"
consortium model export VERSION_DIRECTORY OUT
consortium model export VERSION_DIRECTORY OUT --adapter
```
`export` merges the adapter into the base as a Hugging Face directory; for peft, `export --adapter` writes the adapter alone, unless a
module is trained in full or router biases are moved. Of this directory's own `adapter_model.safetensors` peft finds the tensors of
attention and output head alone, and with cores none.
"""

NO_NOISE = """\
- **No differential privacy.** The plan had no `[privacy]` table: nothing bounds how much one record can influence this model, and text
  seen often in training may be repeated by it.
"""
NOISE = """\
- **More than one unit.** What many records have in common the model may repeat; a person with records of several units, or at several
  institutions, is protected by so much less.
- **Test records.** Metrics are sums over test records without noise.
"""
NOT_PROTECTED = """\
## What was not protected
{noise}\
- **Membership inference.** Each published sum is of {fewest} institutions or more. Who knows or controls some of them can subtract what
  they know, and can test whether a given record or institution took part in the rest.
- **Collusion beyond the plan.** Single updates stay hidden from a coordinator that works together with up to {colluding} of the
  institutions; with more they may not.
- **Poisoning.** Updates are summed unseen. An institution can push the model off course, or plant behaviour in it, unidentified.
- **Truthfulness of the figures.** Metrics are sums of what institutions reported about their own test records.
"""


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What the card tells."""

    name: str
    version: int
    run: Run
    plan: Plan
    rounds: Sequence[Round]
    experts: dict[int, tuple[int, ...]]
    tensors: int
    parameters: int
    threshold: int
    colluding: int
    transcript_sha256: str
    override: Override | None = None


def model_card(facts: CardFacts) -> str:
    """The card as Markdown, beginning with the metadata block that Hugging Face reads."""
    parts = [
        _head(facts),
        *_override(facts),
        _lineage(facts),
        _rounds(facts),
        *_missing(facts),
        _experts(facts),
        *_drafts(facts),
        _protection(facts),
        USE,
    ]
    return "\n".join(parts)


def _head(facts: CardFacts) -> str:
    base, final = facts.rounds[0].metric, final_metric(facts.rounds)
    direction = "higher" if facts.plan.evaluation.higher_is_better else "lower"
    return f"""\
---
library_name: peft
base_model: {facts.plan.base.name}
tags: [consortium, federated, deepseek-v3]
---
# {facts.name}, version {facts.version}

An adapter for the base model `{facts.plan.base.name}`, trained by institutions together;
none of them showed its records or its own update.

| {facts.plan.evaluation.metric} ({direction} is better) | |
|---|---|
| base, before training | {_figure(base)} |
| {_measured(facts.plan)} | {_figure(final)} |
{_alone(facts.rounds[-1])}"""


def _alone(last: Round) -> str:
    """A row, where the last evaluation compared."""
    worse = last.figures.get(WORSE_THAN_ALONE)
    return "" if worse is None else f"| institutions for which their local-only model is better | {worse:.0f} of {last.institutions} |\n"


def _override(facts: CardFacts) -> list[str]:
    if facts.override is None:
        return []
    faults = "\n".join(f"- {_plain(fault)}" for fault in facts.override.unmet)
    reason = _plain(facts.override.reason)
    head = "## Released all the same\nNot everything that the plan requires of a release was met:"
    return [f"{head}\n\n{faults}\n\nThe operator's reason: {reason}\n"]


def _measured(plan: Plan) -> str:
    return "this model with each institution's own factors B, which are not in it" if plan.aggregation.rule == "fedsa" else "this model"


def _lineage(facts: CardFacts) -> str:
    terms = f"`{facts.run.terms_sha256}`" if facts.run.terms_sha256 else "none were named in the plan"
    return f"""\
## Lineage
| | |
|---|---|
| run | `{facts.run.run}` |
| plan (SHA-256) | `{facts.run.plan_sha256}` |
| base (SHA-256) | `{facts.run.base_sha256}` |
| terms that institutions signed (SHA-256) | {terms} |
| state after the last round (SHA-256) | `{facts.rounds[-1].state_sha256}` |
| last transcript (SHA-256) | `{facts.transcript_sha256}` |
| adapter | {facts.tensors} tensors, {facts.parameters:,} parameters |

`manifest.json` holds the hash of every file here and is signed with the coordinator's Ed25519 key;
`plan.json` is the plan whose hash stands above.
"""


def _rounds(facts: CardFacts) -> str:
    lines = [
        f"| {r.number} | {r.institutions} | {', '.join(r.missing) or '-'} | {_figure(r.loss)} | {_figure(r.metric)} |" for r in facts.rounds
    ]
    head = "## Rounds\n| round | institutions in the sums | missing | loss | metric |\n|---|---|---|---|---|\n"
    return head + "\n".join(lines) + "\n\nRound 0 measures the base and chooses experts.\n"


def _missing(facts: CardFacts) -> list[str]:
    """A section, or none where nobody was missing."""
    lines = [f"| {one.institution} | {spans(one.rounds)} | {_plain(one.reason)} |" for one in absences(facts.rounds)]
    table = "\n".join(["| institution | rounds | why |", "|---|---|---|", *lines])
    return [f"## Who was missing\nReasons are the coordinator's, or what the institution answered.\n\n{table}\n"] if lines else []


def _experts(facts: CardFacts) -> str:
    if not facts.experts:
        return "## Experts\nNo routed expert was adapted.\n"
    lines = [f"| {layer} | {', '.join(map(str, facts.experts[layer]))} |" for layer in sorted(facts.experts)]
    trained = "by LoRA" if facts.plan.trainable.expert_mode == "lora" else "in full"
    return (
        f"## Experts\nThese routed experts were adapted {trained}, the others are the base's.\n\n| layer | experts |\n|---|---|\n"
        + "\n".join(lines)
        + "\n"
    )


def _drafts(facts: CardFacts) -> list[str]:
    """A section, or none where no module was adapted or nothing was drafted."""
    before, after = (finished.figures.get(ACCEPTANCE) for finished in (facts.rounds[0], facts.rounds[-1]))
    if before is None or after is None:
        return []
    figures = (
        f"| acceptance on test records | |\n|---|---|\n| base, before training | {_figure(before)} |\n| this model | {_figure(after)} |\n"
    )
    return [
        f"## Multi-token prediction\nOf the tokens that the module drafts, the share that the network would choose itself.\n\n{figures}"
    ]


def _protection(facts: CardFacts) -> str:
    fewest = min(finished.institutions for finished in facts.rounds)
    how = f"""\
## What was protected
Updates, losses, counts and metrics left institutions only under the masks of a secure sum.
Opening one took {facts.threshold} institutions, and the masks hold against a coordinator
working together with up to {facts.colluding} of them.

"""
    promise = statement(facts.plan)
    noise = NO_NOISE if promise is None else NOISE
    told = "" if promise is None else f"Training was {promise}. Institutions account for it themselves, each in its own ledger.\n\n"
    return how + told + NOT_PROTECTED.format(fewest=fewest, colluding=facts.colluding, noise=noise)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _plain(text: str) -> str:
    """Words that someone else chose, on one line and without any Markdown or HTML of theirs."""
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", " ".join(text.split()))
