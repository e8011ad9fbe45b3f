"""Models of other toolkits as model folders of the zoo.

    import_model(Path("parakeet-tdt-0.6b-v2"), Path("parakeet"))

A source is a folder that transformers wrote, its name on the Hugging Face hub, or a `.nemo` archive
of NVIDIA NeMo. Nothing in a source is executed: a checkpoint that holds anything but arrays is
refused.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import yaml

from ..data.augment import AugmentConfig
from ..data.errors import InputError
from ..data.tokenizer import TokenizerConfig
from ..train.recipe import LossConfig, OptimizerConfig, Recipe
from .cards import Card, Published, new_card
from .import_source import Foreign, Lookahead
from .import_weights import check_shapes, convert
from .package import abstract_model, write_model
from .presets import facts_of

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*\Z", re.ASCII)


def import_model(
    source: str,
    folder: Path,
    *,
    name: str = "",
    lookahead: Lookahead = None,
    storage: Literal["float16", "float32"] = "float16",
    on_part: Callable[[str], None] = lambda part: None,
) -> Recipe:
    """Writes a source as a model folder, in place of one that may be there.

    Args:
      source: a folder, a `.nemo` archive, or `owner/name` on the hub.
      name: of the model; by default the source's.
      lookahead: frames of look-ahead of a streaming model; None: its own default.
      storage: of matrices; half as large, float16 rounds them to 11 bits.
      on_part: is told what is done next.

    Raises:
      InputError: the source is damaged, is not what its name says, or of another kind.
    """
    on_part("reading")
    foreign = read_source(source, lookahead)
    recipe = recipe_of(foreign, name or _name_of(source))
    on_part("converting")
    params = convert(foreign.tensors, foreign.model, scale=foreign.scale)
    _, template, frozen = abstract_model(recipe)
    check_shapes(params, template)
    on_part("writing")
    card = _card(foreign, recipe, source)
    write_model(folder, recipe, params, frozen, foreign.tokenizer, card, storage=storage)
    return recipe


def read_source(source: str, lookahead: Lookahead = None) -> Foreign:
    """Raises InputError as `import_model` does."""
    from .import_transformers import CONFIG, read_transformers

    path = Path(source).expanduser()
    if path.is_dir():
        if not (path / CONFIG).is_file():
            raise InputError(f"{path} has no {CONFIG}: it is no model of transformers.")
        return read_transformers(path, lookahead)
    if path.suffix == ".nemo":
        from .import_nemo import read_nemo

        return read_nemo(path, lookahead)
    if path.exists():
        raise InputError(f"{path} is neither a folder of transformers nor a .nemo archive.")
    if not _HUB_NAME.match(source):
        raise InputError(f"{source} does not exist, and is no name on the hub (owner/name).")
    return read_transformers(_download(source), lookahead)


def recipe_of(foreign: Foreign, name: str) -> Recipe:
    """With which `parley train` could go on from it: a small rate, no auxiliary loss."""
    what = "streaming transducer" if foreign.streaming else "transducer"
    return Recipe(
        name=name,
        model=foreign.model,
        description=f"A FastConformer {what}, imported from {foreign.kind}.",
        tokenizer=TokenizerConfig(vocab_size=foreign.model.vocab_size),
        augment=AugmentConfig(freq_width=27),
        loss=LossConfig(ctc_weight=0.0, fastemit=0.0),
        optimizer=OptimizerConfig(peak_lr=1e-4, warmup_steps=200),
    )


def _name_of(source: str) -> str:
    return re.sub(r"[^\w.-]+", "-", Path(source).name.removesuffix(".nemo"), flags=re.ASCII)


def _download(name: str) -> Path:
    """The files of a repository, in the hub's own cache. Raises InputError without them."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    from .import_transformers import FILES

    try:
        return Path(snapshot_download(name, allow_patterns=list(FILES)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
        raise InputError(
            f"{name} could not be had from the hub ({reason}); name a folder that holds it."
        ) from None


def _card(foreign: Foreign, recipe: Recipe, source: str) -> Card:
    license, language, published = _published(foreign.readme)
    facts = facts_of(
        recipe,
        status="imported",
        license=license,
        language=language,
        source=f"{foreign.kind}, {Path(source).name if Path(source).exists() else source}",
    )
    notes = (
        "Imported, not trained here; what its makers say of its use, data and limits holds. "
        "Results that they published are listed as published: they were not measured here."
    )
    return Card(facts, text=new_card(facts, notes=notes).text, published=published)


def _published(readme: Path | None) -> tuple[str, str, tuple[Published, ...]]:
    """(licence, language, results) by the metadata of a card of the hub; `unknown` for what it
    does not say."""
    unknown = "unknown", "unknown", ()
    try:
        text = readme.read_text(encoding="utf-8") if readme is not None else ""
    except (OSError, UnicodeDecodeError):
        return unknown
    found = re.match(r"\A---\s*\n(.*?\n)---\s*(\n|\Z)", text[: 1 << 20], re.DOTALL)
    if not found:
        return unknown
    try:
        metadata = yaml.safe_load(found[1])
    except (yaml.YAMLError, RecursionError):
        return unknown
    if not isinstance(metadata, dict):
        return unknown
    languages = metadata.get("language", "unknown")
    languages = languages if isinstance(languages, list) else [languages]
    license = metadata.get("license_name") or metadata.get("license") or "unknown"
    return str(license), ", ".join(map(str, languages)), tuple(_results(metadata))


def _results(metadata: dict):
    """Word error rates of a card's model-index; entries of another form are left out."""
    for model in metadata.get("model-index") or []:
        for entry in (model or {}).get("results") or []:
            try:
                dataset, metrics = entry["dataset"], entry["metrics"]
                what = " ".join(
                    str(dataset[key]) for key in ("name", "config", "split") if dataset.get(key)
                )
                for metric in metrics:
                    if str(metric["type"]).lower() == "wer":
                        yield Published(what[:200], float(metric["value"]))
            except (KeyError, TypeError, ValueError, AttributeError):
                continue
