"""Guides as people follow them: every block that is not marked, in its order, by a real shell."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile

from documented import PAGES, ROOT, blocks
from parley.data.audio import read_audio

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]
MODELS = ROOT / "zoo" / "models"
RECORDINGS = {
    **dict.fromkeys(
        ("a", "some", "recording", "folder/a", "folder/b", "recordings/a"), "rnnt-tiny/example-0"
    ),
    **dict.fromkeys(("talk", "meeting", "calls/a", "calls/b"), "sts-tiny/example-0"),
    **dict.fromkeys(("ann", "ann1", "who", "b"), "speaker-tiny/example-0"),
    **dict.fromkeys(("ann2", "ann3", "another"), "speaker-tiny/example-0b"),
}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Path]:
    """Recordings, lists and a model of one's own, under the names that guides give them."""
    for name, source in RECORDINGS.items():
        path = tmp_path / f"{name}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, read_audio(MODELS / f"{source}.mp3"), 16_000)
    (tmp_path / "names.txt").write_text("maria\nsophie scott\n")
    (tmp_path / "sentences.txt").write_text("find a flight to paris\nset a timer\n" * 20)
    (tmp_path / "zoo").symlink_to(ROOT / "zoo")
    shutil.copytree(MODELS / "rnnt-tiny", tmp_path / "runs" / "mine" / "model")
    yield tmp_path
    # Hundreds of megabytes of programs and recordings, which pytest would keep.
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(not b.why for b in blocks(page, "sh"))],
    ids=lambda page: page.name,
)  # fmt: skip
def test_what_a_page_tells_to_type_works(page: Path, desk: Path):
    if page.name in ("adding-a-model.md", "your-recordings.md"):
        shutil.rmtree(desk / "runs")  # they make a model themselves
    if page.name == "your-recordings.md":
        shutil.rmtree(desk / "recordings")
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for block in blocks(page):
        if block.why or block.language not in ("sh", "python"):
            continue
        if block.language == "python" and page.name != "your-recordings.md":
            continue  # run in the suite
        shell = ["bash", "-euo", "pipefail", "-c", block.code]
        done = subprocess.run(
            shell if block.language == "sh" else [sys.executable, "-c", block.code],
            cwd=desk, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, f"{block}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
