"""`consortium coordinator models show NAME [VERSION]`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coordinator.cli.options import HomeToRead, JsonOption, RegistryOption, located, opened
from coordinator.cli.printing import figure, moment, print_json, timestamp

if TYPE_CHECKING:
    from coordinator.lineage import Lineage

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="A model's name.")]
VersionArgument = Annotated[int | None, typer.Argument(metavar="[VERSION]", help="Its version; the latest if left out.", min=1)]


def show(
    name: NameArgument,
    version: VersionArgument = None,
    registry: RegistryOption = None,
    home: HomeToRead = None,
    as_json: JsonOption = False,
) -> None:
    """Show where a model version comes from: run, rounds, institutions, who was missing and why, figures, hashes, signer."""
    from coordinator.lineage import lineage, model_named

    with opened(located(registry, home)) as source:
        of = lineage(source, model_named(source, name, version))
    if as_json:
        print_json(_document(of))
    else:
        typer.echo("\n".join(_lines(of)))


def _lines(of: Lineage) -> Iterator[str]:
    from coordinator.absences import spans

    version, run, (base, final) = of.version, of.run, of.metrics
    better = "higher" if run.higher_is_better else "lower"
    yield f"{version.name} {version.version}, released {moment(version.released_at)} UTC at {version.path}"
    if version.withdrawn_at is not None:
        yield f"WITHDRAWN {moment(version.withdrawn_at)} UTC: {version.withdrawn_reason}"
    yield from (f"RELEASED ALL THE SAME ({one.reason}): {fault}" for one in of.overrides for fault in one.unmet)
    yield from (f"{name} withdrew from the run; the version contains its rounds" for name in of.withdrew)
    yield f"run            {run.run}, rounds 0 to {of.rounds[-1].number if of.rounds else '-'}"
    yield f"institutions   {', '.join(of.institutions) or 'none'}"
    yield from (f"missing        {one.institution}, round {spans(one.rounds)}: {one.reason}" for one in of.absences)
    yield f"{run.metric:<14} {figure(base)} (base) to {figure(final)}; {better} is better"
    yield f"privacy        {of.promise or 'no noise'}"
    for title, value in (("plan", run.plan_sha256), ("base", run.base_sha256), ("terms", run.terms_sha256 or "none")):
        yield f"{title:<14} {value}"
    for title, value in (("manifest", version.manifest_sha256), ("transcript", version.transcript_sha256), ("signer", version.signer)):
        yield f"{title:<14} {value}"


def _document(of: Lineage) -> dict[str, Any]:
    version, run, (base, final) = of.version, of.run, of.metrics
    withdrawn = {"at": timestamp(version.withdrawn_at), "reason": version.withdrawn_reason} if version.withdrawn_at else None
    return {
        "name": version.name,
        "version": version.version,
        "path": version.path,
        "released_at": timestamp(version.released_at),
        "withdrawn": withdrawn,
        "withdrawn_institutions": list(of.withdrew),
        "overrides": [{"reason": one.reason, "unmet": list(one.unmet)} for one in of.overrides],
        "run": run.run,
        "rounds": len(of.rounds),
        "institutions": list(of.institutions),
        "missing": [{"institution": one.institution, "rounds": list(one.rounds), "reason": one.reason} for one in of.absences],
        "metric": {"name": run.metric, "higher_is_better": run.higher_is_better, "base": base, "final": final},
        "privacy": asdict(of.promise) if of.promise else None,
        "plan_sha256": run.plan_sha256,
        "base_sha256": run.base_sha256,
        "terms_sha256": run.terms_sha256,
        "manifest_sha256": version.manifest_sha256,
        "transcript_sha256": version.transcript_sha256,
        "signer": version.signer,
    }
