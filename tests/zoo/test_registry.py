"""Look-ups: quick, without JAX, and helpful about names that are not there."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from parley import zoo
from parley.configs import presets, speaker_presets
from parley.data.errors import InputError
from parley.zoo import registry
from parley.zoo.presets import facts_of, speaker_facts_of


@pytest.mark.parametrize(
    "ending",
    [pytest.param("tiny", marks=pytest.mark.slow), pytest.param("", marks=pytest.mark.soak)],
)
def test_the_data_file_says_what_the_presets_are(ending: str):
    """All presets by name, the small ones by their numbers; in `make soak` all of them."""
    said = {name: registry.Facts(**facts) for name, facts in registry.presets_data().items()}
    stale = "run: python -m parley.zoo.presets"
    assert set(said) == {*presets(), *speaker_presets()}, stale
    for name, recipe in presets().items():
        if name.endswith(ending):
            assert said[name] == facts_of(recipe), stale
    for name, recipe in speaker_presets().items():
        assert said[name] == speaker_facts_of(recipe), stale


def test_every_preset_is_listed():
    listed = {entry.name for entry in zoo.list_models()}
    assert listed >= set(registry.presets_data())
    for entry in zoo.list_models():
        assert entry.facts.status == ("trained" if entry.trained else "untrained")
        assert entry.trained or entry.results == ()


def test_every_preset_says_what_it_costs():
    for name, facts in registry.presets_data().items():
        assert 0 < facts["encoder_gflop_per_s"] < facts["gflop_per_s"], name
        assert (facts["state_kib"] is not None) == facts["streaming"], name


def test_shipped_models_stand_first_and_hide_their_preset(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    name = next(iter(registry.presets_data()))
    shutil.copytree(tiny_folder, tmp_path / name)
    card = (tmp_path / name / "README.md").read_text()
    (tmp_path / name / "README.md").write_text(card.replace("name: tiny", f"name: {name}"))
    monkeypatch.setattr(registry, "MODELS", tmp_path)
    first, *others = zoo.list_models()
    assert first.name == name
    assert first.trained
    assert name not in [entry.name for entry in others]
    assert zoo.load(name).name == "tiny"
    assert zoo.card(name).facts.status == "trained"


def test_search_holds_every_condition():
    everything = zoo.list_models()
    assert zoo.search() == everything
    sizes = sorted(entry.facts.parameters for entry in everything)
    assert {e.name for e in zoo.search(max_params=sizes[0])} == {
        e.name for e in everything if e.facts.parameters <= sizes[0]
    }
    assert zoo.search(max_params=sizes[0] - 1) == []
    assert zoo.search(streaming=True) == [e for e in everything if e.facts.streaming]
    assert zoo.search(trained=False) == [e for e in everything if not e.trained]
    assert zoo.search("LSTM rnnt", streaming=True)
    assert zoo.search("lstm nothing-of-the-kind") == []
    assert zoo.search(license="none") == []


def test_an_unknown_name_gets_the_nearest_ones():
    with pytest.raises(InputError, match=r"'rnnt-tinny': did you mean rnnt-tiny.*parley list"):
        zoo.load("rnnt-tinny")
    with pytest.raises(InputError, match=r"called 'zzz': there are .*rnnt-tiny"):
        zoo.card("zzz")


def test_a_preset_without_weights_says_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(registry, "MODELS", tmp_path)
    name = next(iter(registry.presets_data()))
    with pytest.raises(InputError, match=f"without weights: train it .parley train {name}"):
        zoo.load(name)
    assert zoo.card(name).facts.status == "untrained"


def test_a_folder_that_is_no_model(tmp_path: Path):
    with pytest.raises(InputError, match=r"no model folder: it holds no weights\.safetensors"):
        zoo.load(tmp_path)


HEAVY = {"jax", "flax", "numpy", "scipy", "huggingface_hub", "matplotlib"}


@pytest.mark.parametrize(
    "code",
    [
        "import parley",
        "from parley import zoo; zoo.list_models(); zoo.search('x'); zoo.card('rnnt-tiny')",
        *(
            f"from parley.zoo import cli; assert cli.main({arguments}) == 0"
            for arguments in (
                ["list"],
                ["list", "--json", "--sort", "error"],
                ["search", "streaming under 5M with turns"],
                ["show", "rnnt-tiny"],
                ["show", "ecapa-512", "--json"],
                ["compare", "rnnt-tiny", "tt-tiny-assistant"],
            )
        ),
    ],
)
def test_looking_up_imports_nothing_heavy(code: str):
    ask = f"{code}\nimport sys; f = {HEAVY} & set(sys.modules); sys.exit(str(f or '') or 0)"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
