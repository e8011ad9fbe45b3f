"""`parley plan`: what it compiles, what it prints, and what it says where it cannot."""

import dataclasses
import json
from pathlib import Path

import pytest

from parley.configs import presets
from parley.data.errors import InputError
from parley.train.plan_compile import step_shape
from parley.zoo import cli, plan_process
from parley.zoo.commands_plan import largest_batch, parse_plan, swept
from parley.zoo.plan_plot import write_plan
from parley.zoo.plan_report import show_plan, show_scaling, show_sweep

RECORD = {
    "recipe": "mine",
    "topology": "v5e:4x4",
    "chip": "TPU v5e",
    "chips": 16,
    "mesh": [16, 1, 1],
    "parameters": 30_000_000,
    "rows": 32,
    "utterance_seconds": 20.0,
    "tokens": 80,
    "audio_seconds": 640.0,
    "accumulate": 1,
    "remat": "none",
    "precision": "bfloat16",
    "steps": 1000,
    "compile_seconds": 60.0,
    "compile_processor_seconds": 50.0,
    "memory": {"arguments": 1e9, "temporary": 3e9, "total": 4e9, "capacity": 16e9},
    "fits": True,
    "flops": 1e12,
    "useful_flops": 8e11,
    "traffic": 1e10,
    "operations": 1000,
    "collectives": {"all-reduce": {"count": 1, "bytes": 1.2e8, "wire": 2.4e8, "group": 16}},
    "estimate": {"compute": 0.01, "memory": 0.01, "launch": 0.0, "collective": 0.01, "step": 0.03},
    "mfu": 0.3,
    "hours": 0.1,
    "chip_hours": 1.6,
}


def test_the_recipe_and_the_command_share_one_line():
    given = parse_plan(
        presets()["conv-rnnt-30m"],
        ["--topology", "v6e:4x4", "--remat", "blocks", "--mesh.fsdp", "4", "--json"],
    )
    assert (given.topology, given.json) == ("v6e:4x4", True)
    assert (given.recipe.remat, given.recipe.mesh.fsdp) == ("blocks", 4)


def test_a_sweep_goes_over_batches_and_meshes():
    rest = ["--sweep", "--batches", "600", "1200", "--meshes", "16x1x1", "2x8x1"]
    given = parse_plan(presets()["tt-30m"], rest)
    found = [(r.mesh.data, r.mesh.fsdp, round(r.data.batch_seconds)) for r in swept(given, 16)]
    assert found == [(16, 1, 600), (16, 1, 1200), (2, 8, 600), (2, 8, 1200)]
    with pytest.raises(InputError, match="DATAxFSDPxMODEL"):
        swept(dataclasses.replace(given, meshes=("16",)), 16)
    with pytest.raises(InputError, match="fit 16 chips"):
        swept(dataclasses.replace(given, meshes=("4x2x1",)), 16)


def test_a_sweep_on_many_chips_begins_with_a_row_for_each():
    """The recipe's 2,400 s are fewer than 256 rows of 20 s; twice as much would be the same."""
    given = parse_plan(presets()["tt-30m"], ["--sweep"])
    recipes = swept(given, 256)
    rows = [step_shape(r, (256, 1, 1), r.data.max_seconds).rows for r in recipes]
    assert rows == [256, 512, 1024, 256, 512, 1024]
    assert [(r.mesh.data, r.mesh.fsdp) for r in recipes] == [(256, 1)] * 3 + [(32, 8)] * 3


def test_the_largest_batch_lies_on_the_line_through_two():
    double = {**RECORD, "audio_seconds": 1280.0, "memory": {**RECORD["memory"], "total": 7e9}}
    # 1e9 bytes at no audio, 3e9 for each 640 s: 16e9 hold 3,200 s, which is 10 rows a chip.
    assert largest_batch([RECORD, double]) == 3200.0
    assert largest_batch([RECORD, RECORD]) is None
    split = {**RECORD, "mesh": [2, 8, 1], "audio_seconds": 1280.0}
    assert largest_batch([RECORD, split]) is None
    assert largest_batch([RECORD, split, double]) == 3200.0


def test_without_libtpu_one_sentence_says_how_to_get_it(monkeypatch, tmp_path: Path, capsys):
    monkeypatch.setattr(plan_process, "LIBTPU_FOLDER", tmp_path / "none")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cli.main(["plan", "rnnt-tiny", "--topology", "v5e:2x4"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "pip install --no-deps --target" in said
    assert "libtpu==" in said
    assert "parley-asr[tpu-plan]" in said


def test_what_is_printed_and_drawn(tmp_path: Path, capsys):
    full = {**RECORD, "fits": False, "memory": {**RECORD["memory"], "total": 2e10}}
    refused = {**full, "estimate": None, "collectives": {}}
    show_plan(RECORD, 3200.0)
    show_plan(refused, None)
    show_sweep([RECORD, refused])
    row = {"chips": 16, "step": 0.03, "collective": 0.3, "efficiency": 0.7, "audio_per_second": 9}
    show_scaling([row], RECORD)
    text = capsys.readouterr().out
    for words in (
        "30.0 M parameters", "of which it fits into", "does NOT fit", "MFU 30.0 %",
        "1.6 chip-hours", "Largest batch that fits: 3,200 s", "--remat blocks", "33 % of a step",
        "all-reduce, 1 times, up to 16 chips",
    ):  # fmt: skip
        assert words in text, words
    write_plan([RECORD, refused], [row, {**row, "chips": 32}], tmp_path / "plan.svg")
    assert "compiled, not run" in (tmp_path / "plan.svg").read_text()


@pytest.mark.slow
def test_a_plan_for_gpus_from_the_command_line(capsys, tmp_path: Path):
    options = ["--model.encoder.width", "16", "--model.encoder.layers", "1", "--json"]
    few = [*options, "--utterance-seconds", "2", "--out", str(tmp_path / "plan.png")]
    assert cli.main(["plan", "rnnt-tiny", "--topology", "h100:2", *few]) == 0
    found = json.loads(capsys.readouterr().out)
    (plan,) = found["plans"]
    assert (plan["chips"], plan["mesh"], plan["fits"]) == (2, [2, 1, 1], True)
    assert [row["chips"] for row in found["weak_scaling"]] == [8, 16, 32, 64, 128, 256, 512, 1024]
    assert (tmp_path / "plan.png").stat().st_size > 1000
