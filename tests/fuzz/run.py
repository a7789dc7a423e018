"""Coverage-guided fuzzing by atheris: ``python -m tests.fuzz.run --runs 500000 decoder upload``.

Each target runs in a process of its own until it has been tried so often, and the end of its output says so.
What breaks a promise is written to ``tests/fuzz/findings/<target>/``, which `test_findings` tries again in
every ordinary test run; put it under version control with the repair.
"""

from __future__ import annotations

import argparse
import importlib
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["PIL", "app", "python_multipart", "starlette.formparsers"]):
    for plugin in ("Jpeg", "Mpo", "Png", "WebP"):
        importlib.import_module(f"PIL.{plugin}ImagePlugin")
    from tests.fuzz.seeds import SEEDS, with_right_checksums
    from tests.fuzz.targets import TARGETS

FINDINGS = Path(__file__).parent / "findings"
LONGEST = 4096
SECONDS_EACH = 10


def mutate(data: bytes, largest: int, seed: int) -> bytes:
    """A mutation, mostly with the checksums of a PNG put right."""
    changed = bytes(atheris.Mutate(data, largest))
    return with_right_checksums(changed)[:largest] if random.Random(seed).random() < 0.9 else changed  # noqa: S311 - nothing secret


def fuzz(target: str, corpus: Path, runs: int) -> None:
    """Try the target in this process, which then ends."""
    options = [f"-atheris_runs={runs}", f"-max_len={LONGEST}", f"-timeout={SECONDS_EACH}"]
    options += [f"-artifact_prefix={FINDINGS / target}/", "-verbosity=0"]
    argv = [sys.argv[0], *options, str(corpus)]
    atheris.Setup(argv, TARGETS[target], custom_mutator=mutate if target == "decoder" else None)
    atheris.Fuzz()


def main() -> int:
    """Fuzz each target and print how often and how fast; 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(TARGETS)}; all by default")
    parser.add_argument("--runs", type=int, default=100_000, help="tries of each target")
    parser.add_argument("--corpus", type=Path, help="where what was learned is kept; nowhere by default")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"there is no target {', '.join(sorted(unknown))}")
    if options.child:
        fuzz(options.targets[0], options.corpus, options.runs)
    total = found = 0
    with tempfile.TemporaryDirectory() as scratch:
        for target in options.targets or TARGETS:
            tried, findings = _one(target, (options.corpus or Path(scratch)) / target, options.runs)
            total += tried
            found += findings
    print(f"all targets: {total:,} executions, {found} findings")
    return 1 if found else 0


def _one(target: str, corpus: Path, runs: int) -> tuple[int, int]:
    """Executions and findings of one target."""
    corpus.mkdir(parents=True, exist_ok=True)
    (FINDINGS / target).mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[target]()):
        (corpus / f"seed-{number}").write_bytes(seed)
    before = set((FINDINGS / target).iterdir())
    command = [sys.executable, "-m", "tests.fuzz.run", target, "--child", "--corpus", str(corpus)]
    done = subprocess.run(
        [*command, "--runs", str(runs)], check=False, stderr=subprocess.PIPE, text=True, errors="replace"
    )
    findings = sorted(set((FINDINGS / target).iterdir()) - before)
    ended = re.search(r"Done (\d+) in (\d+) second", done.stderr)  # a finding ends it without this line
    tried, seconds = (int(ended[1]), int(ended[2])) if ended else (0, 0)
    size = sum(1 for _ in corpus.iterdir())
    print(f"{target}: {tried:,} executions in {seconds} s, {size} inputs kept, {len(findings)} findings")
    for finding in findings:
        print(f"  {finding}")
    if findings or done.returncode:
        print(done.stderr[-4000:], file=sys.stderr)
    return tried, max(len(findings), int(done.returncode != 0))


if __name__ == "__main__":
    sys.exit(main())
