"""From an empty machine to a transcript: trains on `words`, and shows how good the result is.

    python -m parley.benchmarks.demo      # what `make demo` runs: minutes on two cores

Every stage is a command that anybody can run, printed before it runs. What was already done (the
corpus, a finished training) is not done again.
"""

import argparse
import resource
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ..data.corpus import open_corpus
from ..data.errors import InputError
from ..zoo import cli
from ..zoo.cards import CARD, percent, read_card
from ..zoo.console import stdout, table
from ..zoo.registry import find

PRESET = "rnnt-tiny-words"
SHIPPED = "rnnt-tiny"


class Stages:
    """Runs stages and remembers how long each took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def run(self, title: str, work: Callable[[], object]) -> None:
        began = time.monotonic()
        work()
        self.seconds[title] = time.monotonic() - began

    def command(self, title: str, *words: str) -> None:
        print(f"\n$ parley {shlex.join(words)}", flush=True)

        def work() -> None:
            code = cli.main(list(words))
            if code:
                sys.exit(code)

        self.run(title, work)


def demo(run_dir: Path) -> None:
    stages = Stages()
    print("Making the corpus: espeak-ng voices, 120 speakers to learn from, 70 unseen ones.")
    stages.run(
        "corpus", lambda: [open_corpus("words", split) for split in ("train", "dev", "test")]
    )
    model = run_dir / "model"
    if (model / CARD).exists():
        print(f"{model} is trained already; remove {run_dir} to train again.")
    else:
        resume = ["--resume"] if (run_dir / "checkpoints").exists() else []
        stages.command("training", "train", PRESET, "--run-dir", str(run_dir), *resume)
    stages.command(
        "evaluation",
        "evaluate",
        str(model),
        *("--data", "words", "--by", "accent", "--examples", "5", "--update-card"),
    )
    shipped = _is_trained(SHIPPED)
    if shipped:
        stages.command(
            f"{SHIPPED} on assistant", "evaluate", SHIPPED, "--data", "assistant", "--examples", "2"
        )
    _summary(run_dir, stages)
    if not shipped:
        print(f"{SHIPPED} has no weights in this copy, so it was not evaluated.")


def _is_trained(name: str) -> bool:
    try:
        return find(name).trained
    except InputError:
        return False


def _summary(run_dir: Path, stages: Stages) -> None:
    card = read_card(run_dir / "model" / CARD)
    result = card.results[-1]
    console = stdout()
    console.print(
        f"\nTrained here, {result.name}: word error rate "
        f"{percent(result.wer, result.low, result.high)} over {result.words:,} words of "
        f"{result.speakers} unseen speakers"
    )
    times = table("stage", "seconds", right=("seconds",))
    for title, seconds in stages.seconds.items():
        times.add_row(title, f"{seconds:,.1f}")
    times.add_section()
    times.add_row("all", f"{sum(stages.seconds.values()):,.1f}")
    console.print(times)
    peak = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    console.print(f"\nlargest resident memory   {peak / 2**20:.2f} GiB")
    console.print(f"card                      {run_dir / 'model' / CARD}")
    console.print(f"TensorBoard files         {run_dir / 'tensorboard'}")
    console.print(f"try it                    parley transcribe {run_dir / 'model'} your.wav")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m parley.benchmarks.demo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--run-dir", type=Path, default=Path("runs/demo"))
    demo(parser.parse_args().run_dir)


if __name__ == "__main__":
    main()
