"""Coverage-guided fuzzing of a decoder's entry by libFuzzer (atheris), from the committed corpus.

python -m tests.fuzz.fuzz ENTRY [--seconds N] [--inputs N]    one entry, or --all of them one after the other
python -m tests.fuzz.fuzz DECODER --input FILE                one input again, with its traceback
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.decoders import decoders, entries
from tests.fuzz.make_corpus import CORPUS

ROOT = Path(__file__).parent.parent.parent
DICTIONARY = Path(__file__).parent / "dictionary.txt"
MOST_BYTES = 1 << 15
SECONDS_PER_INPUT = 5
MEMORY_MB = 2048


@dataclass(frozen=True)
class Report:
    """What a run did; `finding` says what went wrong and how to see it again."""

    entry: str
    executions: int
    coverage: int  # edges of the instrumented modules
    seconds: float
    finding: str = ""

    def __str__(self) -> str:
        rate = self.executions / max(self.seconds, 1e-9)
        done = f"{self.entry}: {self.executions} executions in {self.seconds:.0f} s ({rate:.0f}/s), {self.coverage} edges"
        return f"{done}\n{self.finding}" if self.finding else f"{done}, no findings"


def fuzz(entry: str, findings: Path, seconds: int = 0, inputs: int = 0) -> Report:
    """Fuzzes an entry until `seconds` or `inputs` are over (0: no limit); what is found is written under `findings`."""
    findings.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        seeds, grown, artifact = Path(folder, "seeds"), Path(folder, "grown"), Path(folder, "found")
        write_seeds(entry, seeds)
        grown.mkdir()
        limits = [f"-max_total_time={seconds}", *([f"-runs={inputs}"] if inputs else [])]
        options = [
            f"-max_len={MOST_BYTES}",
            f"-timeout={SECONDS_PER_INPUT}",
            f"-rss_limit_mb={MEMORY_MB}",
            f"-dict={DICTIONARY}",
            "-print_final_stats=1",
        ]
        command = [sys.executable, "-m", "tests.fuzz.target", entry, *limits, *options, f"-exact_artifact_path={artifact}"]
        done = subprocess.run([*command, str(grown), str(seeds)], cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
        finding = _kept(entry, artifact, findings, done.stderr + done.stdout) if done.returncode or artifact.exists() else ""
    return Report(entry, *_figures(done.stderr), time.monotonic() - started, finding)


def write_seeds(entry: str, folder: Path) -> None:
    """The corpus of an entry's decoders, each input after the byte that chooses its decoder."""
    folder.mkdir()
    for number, decoder in enumerate(entries()[entry]):
        for sample in sorted((CORPUS / decoder.name).iterdir()):
            (folder / f"{decoder.name}-{sample.name}").write_bytes(bytes([number]) + sample.read_bytes())


def _kept(entry: str, artifact: Path, findings: Path, log: str) -> str:
    """Keeps the input without its first byte, under the decoder that this byte chose, and says how to run it again."""
    if not artifact.exists():
        return f"the fuzzer itself failed:\n{log[-4000:]}"
    data = artifact.read_bytes()
    chosen = entries()[entry]
    decoder = chosen[data[0] % len(chosen)]
    path = findings / f"{decoder.name}.input"
    path.write_bytes(data[1:])
    reason = log[log.find("=== Uncaught") :] if "=== Uncaught" in log else log
    return f"{reason[:4000]}\nreproduce with: python -m tests.fuzz.fuzz {decoder.name} --input {path}"


def _figures(log: str) -> tuple[int, int]:
    executions = re.findall(r"stat::number_of_executed_units: *(\d+)", log) or re.findall(r"^#(\d+)\t", log, re.MULTILINE)
    coverage = re.findall(r"cov: (\d+)", log)
    return int(executions[-1]) if executions else 0, int(coverage[-1]) if coverage else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", help=f"entry: {', '.join(entries())}; with --input a decoder")
    parser.add_argument("--all", action="store_true", help="every entry; --inputs and --seconds are divided among them")
    parser.add_argument("--seconds", type=int, default=0)
    parser.add_argument("--inputs", type=int, default=0)
    parser.add_argument("--input", type=Path, help="run this one input")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"), help="where what is found is written")
    options = parser.parse_args()
    if options.input:
        print("decodes" if decoders()[options.name].check(options.input.read_bytes()) else "is refused")
        return 0
    chosen = list(entries()) if options.all else [options.name]
    if not set(chosen) <= entries().keys():
        parser.error(f"give one of {', '.join(entries())}, or --all")
    found = False
    for entry in chosen:
        report = fuzz(entry, options.findings, -(-options.seconds // len(chosen)), -(-options.inputs // len(chosen)))
        print(report, flush=True)
        found |= bool(report.finding)
    return int(found)


if __name__ == "__main__":
    sys.exit(main())
