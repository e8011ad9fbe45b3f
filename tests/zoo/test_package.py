"""Weights and model folders: a round trip, and one sentence for each kind of damage."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from parley import zoo
from parley.data.errors import InputError
from parley.data.tokenizer import Tokenizer
from parley.train.weights import flatten, load_weights, merge_trees, save_weights
from parley.zoo.cards import read_card
from parley.zoo.package import read_model, write_model

TREE = {
    "encoder": {"layers": {0: {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}}},
    "bias": np.array([0.1, -2.0], np.float32),
}


@pytest.fixture
def copy(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "copy"))


def test_weights_come_back(tmp_path: Path):
    # 0.1 has no exact half: vectors keep all their bits, whatever the matrices are stored in.
    save_weights(tmp_path / "w", TREE)
    found = load_weights(tmp_path / "w", TREE)
    assert jax.tree.structure(found) == jax.tree.structure(TREE)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(TREE), strict=True):
        np.testing.assert_array_equal(a, b)
    assert found["encoder"]["layers"][0]["kernel"].dtype == np.float32
    assert list(flatten(TREE)) == ["bias", "encoder.layers.0.kernel"]


def test_half_precision_halves_the_file(tmp_path: Path):
    tree = {"kernel": np.ones((100, 100), np.float32)}
    save_weights(tmp_path / "half", tree)
    save_weights(tmp_path / "full", tree, storage="float32")
    half, full = ((tmp_path / n).stat().st_size for n in ("half", "full"))
    assert 20_000 <= half < 20_500
    assert 40_000 <= full < 40_500


def test_a_weight_that_storage_cannot_hold_is_refused(tmp_path: Path):
    tree = {"kernel": np.full((2, 2), 1e6, np.float32)}
    with pytest.raises(ValueError, match="kernel is not finite in float16"):
        save_weights(tmp_path / "w", tree)
    assert list(tmp_path.iterdir()) == []
    save_weights(tmp_path / "w", tree, storage="float32")


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"bias": TREE["bias"]}, r"has an unknown weight encoder\.layers\.0\.kernel"),
        (merge_trees(TREE, {"more": TREE["bias"]}), "lacks weight more"),
        (TREE | {"bias": np.zeros(3)}, "bias has shape .2., and this model's is .3."),
    ],
)
def test_weights_of_another_model_are_refused(tmp_path: Path, tree: dict, message: str):
    save_weights(tmp_path / "w", TREE)
    with pytest.raises(InputError, match=message):
        load_weights(tmp_path / "w", tree)


@pytest.mark.parametrize("keep", [0, 5, 100, -7])
def test_a_file_cut_short_is_one_sentence(tmp_path: Path, keep: int):
    path = tmp_path / "weights.safetensors"
    save_weights(path, TREE)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"weights\.safetensors is damaged \(.*\): copy") as error:
        load_weights(path, TREE)
    assert "\n" not in str(error.value)


def test_weights_that_are_not_numbers_are_refused(tmp_path: Path):
    path = tmp_path / "w"
    save_weights(path, TREE)
    content = bytearray(path.read_bytes())
    content[-2:] = np.float16(np.nan).tobytes()  # of the last array, the kernel
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match="holds NaN"):
        load_weights(path, TREE)


def test_a_model_folder_comes_back(tiny_folder: Path, tmp_path: Path, sound):
    package = read_model(tiny_folder)
    card = read_card(tiny_folder / "README.md")
    again = tmp_path / "runs" / "x" / "model"
    write_model(again, package.recipe, package.params, package.frozen, package.tokenizer, card)
    second = read_model(again)
    assert second.recipe == package.recipe
    for a, b in zip(jax.tree.leaves(second.params), jax.tree.leaves(package.params), strict=True):
        np.testing.assert_array_equal(a, b)
    audio = sound(1.0, 0)
    # A run's folder, and the model's in it, are both names for it.
    for path in (again, again.parent, str(again)):
        assert zoo.load(path).transcribe(audio).text == zoo.load(tiny_folder).transcribe(audio).text
    assert {p.name for p in again.parent.iterdir()} == {"model"}


def test_a_failed_write_leaves_the_old_folder(copy: Path):
    package = read_model(copy)
    before = (copy / "weights.safetensors").read_bytes()
    broken = jax.tree.map(lambda x: np.full_like(x, np.nan), package.params)
    with pytest.raises(ValueError, match="not finite"):
        write_model(
            copy, package.recipe, broken, package.frozen, package.tokenizer,
            read_card(copy / "README.md"),
        )  # fmt: skip
    assert (copy / "weights.safetensors").read_bytes() == before
    assert [p.name for p in copy.parent.iterdir()] == ["copy"]


def test_a_tokenizer_that_does_not_fit_is_refused(copy: Path):
    Tokenizer.train(["a few words", "and more of them"], kind="char").save(copy / "tokenizer.model")
    with pytest.raises(InputError, match="different models"):
        zoo.load(copy)


@pytest.mark.parametrize("name", ["recipe.json", "weights.safetensors", "tokenizer.model"])
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_damage_to_any_file_names_it(copy: Path, name: str, damage: str):
    if damage == "missing":
        (copy / name).unlink()
    else:
        content = (copy / name).read_bytes()
        (copy / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=name.replace(".", r"\.")) as error:
        zoo.load(copy)
    assert "\n" not in str(error.value)


def test_a_recipe_of_another_version_is_named(copy: Path):
    recipe = json.loads((copy / "recipe.json").read_text())
    (copy / "recipe.json").write_text(json.dumps(recipe | {"flux": 1}))
    with pytest.raises(InputError, match=r"recipe\.json .*'flux'"):
        zoo.load(copy)
