"""A tuned model in the institution's own folder, in the form of a release; the version that it comes from is not touched."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from client.errors import SettingsError
from client.personal import PersonalFiles
from client.personal_training import own_model
from client.settings import load_settings
from client.tuning import Tuned, tune
from client.workbench import open_workbench
from model.release import PEFT_PREFIX, TENSORS_FILE, Release, read_release
from protocols.files import make_folder, replace_folder, write_file
from protocols.plan import Plan, plan_from_canonical
from protocols.state import State

NOT_COPIED = (TENSORS_FILE, "README.md", "manifest.json")


@dataclass(frozen=True, slots=True)
class KeptModel:
    """What was chosen, and where it lies."""

    tuned: Tuned
    folder: Path
    metric: str


def tune_release(
    release: Path,
    institution: Path,
    *,
    steps: int | None = None,
    learning_rate: float | None = None,
    on_section: Callable[[int, int], None] = lambda *_: None,
) -> KeptModel:
    """Tunes the version in `release` on the records of `institution`, and writes it to its `models`/NAME/VERSION.

    What the institution kept to itself in the version's run, as its home has it, is where the tune-up begins. `on_section` is told
    after each of the tune-up's equal parts, with how many there are.

    Raises:
        ConsortiumError, ModelError: what is missing or does not fit, in one sentence; nothing was written.
    """
    read, plan = read_release(release), plan_from_canonical((release / "plan.json").read_bytes())
    settings, terms = load_settings(institution / "institution.toml"), plan.personalisation
    steps = terms.tune_steps if steps is None else steps
    if not steps:
        raise SettingsError("the model's plan has no personalisation.tune_steps; say how many with --steps")
    bench = open_workbench(plan, settings)
    if bench.base_sha256 != read.base_sha256:
        where = settings.base_directory(plan.base.name)
        raise SettingsError(f"{release} belongs to another checkpoint than {where}; bind its own to {plan.base.name} in [bases]")
    shared = State(read.base_sha256, plan.rounds, read.tensors, read.experts)
    kept = PersonalFiles(Path(settings.storage.home), _run_of(read)).newest(plan.rounds)
    own = own_model(shared, kept) if kept else shared
    tuned = tune(bench, shared, own, steps, learning_rate or terms.tune_learning_rate, on_section)
    return KeptModel(tuned, write_tuned(read, institution, tuned, plan), plan.evaluation.metric)


def write_tuned(release: Release, institution: Path, tuned: Tuned, plan: Plan) -> Path:
    """Writes the folder `models`/NAME/VERSION of an institution; an earlier tune-up of the same version is replaced."""
    folder = institution / "models" / plan.name / str(release.version)
    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    make_folder(draft, 0o700)  # one institution's records can be read out of it
    for name, content in _contents(release, tuned, plan).items():
        write_file(draft / name, content)
    write_file(draft / "manifest.json", _json(_manifest(draft, release, tuned)))
    replace_folder(draft, folder)
    return folder


def _run_of(release: Release) -> str:
    run = _read_manifest(release).get("run")
    if not isinstance(run, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", run):
        raise SettingsError(f"{release.directory}: the manifest names no run; fetch the version again")
    return run


def _read_manifest(release: Release) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((release.directory / "manifest.json").read_bytes())
    return manifest


def _contents(release: Release, tuned: Tuned, plan: Plan) -> dict[str, bytes]:
    """The version's own files but its tensors; tokenizer, plan and peft's configuration say the same of the tuned one."""
    copied = {
        path.name: path.read_bytes() for path in sorted(release.directory.iterdir()) if path.is_file() and path.name not in NOT_COPIED
    }
    tensors = {f"{PEFT_PREFIX}{name}": np.ascontiguousarray(values, np.float32) for name, values in tuned.state.tensors.items()}
    return {**copied, TENSORS_FILE: save(tensors, metadata={"format": "pt"}), "README.md": _card(release, tuned, plan).encode()}


def _card(release: Release, tuned: Tuned, plan: Plan) -> str:
    noise = "" if plan.privacy is None else "It was tuned without noise: what the version promises of privacy does not hold for it.\n"
    figures = f"{plan.evaluation.metric} on {tuned.held_out} held-out training records: {tuned.before:.3f} shared, {tuned.after:.3f} here"
    return f"""\
# {plan.name}, tuned at one institution

Personal: made of this institution's own records and meant to stay with it.
It comes from version {release.version}, which is unchanged.
{figures} (step {tuned.step} of {tuned.steps}).
{noise}"""


def _manifest(draft: Path, release: Release, tuned: Tuned) -> dict[str, Any]:
    """The version's own, with other experts and files; unsigned, because nobody else vouches for it."""
    shared = _read_manifest(release)
    return {
        **{key: shared[key] for key in ("schema", "name", "version", "run", "plan_sha256", "base") if key in shared},
        "experts": {str(layer): list(chosen) for layer, chosen in sorted(tuned.state.experts.items())},
        "files": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(draft.iterdir())},
        "tuned_from": hashlib.sha256((release.directory / "manifest.json").read_bytes()).hexdigest(),
        "tuned_step": tuned.step,
    }


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()
