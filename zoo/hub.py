"""Models on the Hugging Face Hub: `hf://org/name@revision`, fetched, checked and published.

    from parley import zoo
    zoo.load("hf://someone/rnnt-tiny@v1").transcribe("recording.wav")

What is published is a model's folder and `SHA256SUMS`, which names every file with its hash; what
is fetched is checked by it. Only files that a model has are fetched, into huggingface_hub's cache,
from which they are read again without a network (HF_HUB_OFFLINE=1, too). Another hub, or a mirror,
is named by HF_ENDPOINT.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ..data.errors import InputError
from ..data.files import replacing_folder
from .cards import CARD

SCHEME = "hf://"
SUMS = "SHA256SUMS"
FILES = (
    *(CARD, "recipe.json", "weights.safetensors", "tokenizer.model", "threshold.json"),
    *("calibration.json", "examples.json"),
)
"""What a model's folder may have, beside its examples."""
EXAMPLES = ("example-*.mp3", "example-*.png")
_REFERENCE = re.compile(
    r"hf://(?P<repo>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})"
    r"(?:@(?P<revision>[A-Za-z0-9][\w.-]{0,95}(?:/[\w-][\w.-]{0,95})*))?"
)
_SUM = re.compile(r"(?P<sum>[0-9a-f]{64})  (?P<name>[A-Za-z0-9][\w.-]*)")
_MOST_SUMS = 1 << 16


class Reference(NamedTuple):
    """A model on the hub."""

    repo: str
    """organisation/name."""
    revision: str | None
    """A branch, a tag or a commit; None is the newest."""

    def __str__(self) -> str:
        return f"{SCHEME}{self.repo}" + (f"@{self.revision}" if self.revision else "")


def read_reference(text: str) -> Reference:
    """Raises InputError for what is no `hf://organisation/name[@revision]`."""
    found = _REFERENCE.fullmatch(text)
    if not found or ".." in text:
        raise InputError(f"{text[:120]!r} names no model: write hf://organisation/name@revision.")
    return Reference(found["repo"], found["revision"])


def fetch(reference: Reference) -> Path:
    """The model's folder, from the hub or from what was fetched before.

    Raises:
      InputError: it is not there, the hub cannot be reached and nothing was kept, or the files are
        not those that were published.
    """
    from huggingface_hub import constants, snapshot_download

    with _sentences(str(reference)):
        found = snapshot_download(
            reference.repo,
            revision=reference.revision,
            allow_patterns=[*FILES, *EXAMPLES, SUMS],
            cache_dir=constants.HF_HUB_CACHE,
            endpoint=_endpoint(),
            library_name="parley",
        )
    folder = Path(found)
    # The cache keeps contents beside its snapshots and links to them.
    check(folder, within=folder.parents[1])
    return folder


def push(folder: Path, repo: str, *, revision: str | None = None, private: bool = False) -> str:
    """Publishes a model's folder, and returns the `hf://` name that pins it.

    The repository is made where there is none; files of an older model that this one does not have
    are taken away. Raises InputError where the hub refuses, and for a folder with links in it.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    read_reference(f"{SCHEME}{repo}" + (f"@{revision}" if revision else ""))
    contents = {path.name: path.read_bytes() for path in model_files(folder)}
    contents[SUMS] = sums(contents).encode()
    api = HfApi(endpoint=_endpoint(), library_name="parley")
    with _sentences(repo):
        api.create_repo(repo, private=private, exist_ok=True)
        if revision:
            api.create_branch(repo, branch=revision, exist_ok=True)
        there = api.list_repo_files(repo, revision=revision)
        ours = re.compile("|".join([*map(re.escape, FILES), r"example-[\w.-]+"]))
        stale = [name for name in there if ours.fullmatch(name) and name not in contents]
        commit = api.create_commit(
            repo,
            operations=[
                *(CommitOperationAdd(name, content) for name, content in contents.items()),
                *(CommitOperationDelete(name) for name in stale),
            ],
            commit_message=f"{folder.resolve().name}, by parley push",
            revision=revision,
        )
    return str(Reference(repo, commit.oid))


def pack(folder: Path, to: Path) -> None:
    """Writes what `push` would publish into a folder, which is a model's folder too."""
    files = model_files(folder)
    with replacing_folder(to) as fresh:
        for path in files:
            shutil.copyfile(path, fresh / path.name)
        (fresh / SUMS).write_text(sums({p.name: p.read_bytes() for p in files}))


def model_files(folder: Path) -> list[Path]:
    """The files of a model's folder, no others.

    Raises InputError where one is a link to somewhere outside: it might be a secret.
    """
    found = [folder / name for name in FILES if (folder / name).is_file()]
    found += sorted(path for pattern in EXAMPLES for path in folder.glob(pattern))
    for path in found:
        if path.is_symlink():
            raise InputError(f"{path} is a link: put the file itself there before it is published.")
    return found


def sums(contents: dict[str, bytes]) -> str:
    """As `sha256sum` writes them."""
    return "".join(
        f"{hashlib.sha256(contents[name]).hexdigest()}  {name}\n" for name in sorted(contents)
    )


def check(folder: Path, *, within: Path | None = None) -> None:
    """Holds a folder against its SHA256SUMS.

    `within`: where contents may lie that its files are links to; by default the folder itself.
    Raises InputError, naming the file, for one that is missing, changed, not listed or elsewhere.
    """
    path = folder / SUMS
    root = (within or folder).resolve()
    listed = _read_sums(path, root)
    there = {p.name for p in folder.iterdir() if p.name != SUMS}
    for name in sorted(there - listed.keys()):
        raise InputError(f"{folder / name} is not in {SUMS}: fetch the model again.")
    for name, expected in listed.items():
        file = folder / name
        if not file.resolve().is_relative_to(root):
            raise InputError(f"{file} leads out of its folder: do not use this model.")
        if not file.is_file():
            raise InputError(f"{file} is missing: fetch the model again.")
        with open(file, "rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
        if found != expected:
            raise InputError(f"{file} is not the file that was published: fetch the model again.")


def _read_sums(path: Path, root: Path) -> dict[str, str]:
    if not path.is_file():
        raise InputError(f"{path} is missing: the model was not published by parley push.")
    if not path.resolve().is_relative_to(root) or path.stat().st_size > _MOST_SUMS:
        raise InputError(f"{path} is no list of hashes: do not use this model.")
    listed = {}
    for line in path.read_bytes().decode("utf-8", "replace").splitlines():
        found = _SUM.fullmatch(line)
        if not found:
            raise InputError(f"{path} is no list of hashes: do not use this model.")
        listed[found["name"]] = found["sum"]
    return listed


def _endpoint() -> str | None:
    """Read when it is asked for, and not when huggingface_hub was imported."""
    return os.environ.get("HF_ENDPOINT") or None


@contextmanager
def _sentences(what: str) -> Iterator[None]:
    """What the hub says, in one sentence."""
    from huggingface_hub import errors

    try:
        yield
    except errors.RevisionNotFoundError:
        raise InputError(f"{what}: the hub has the model, but not this revision.") from None
    except errors.GatedRepoError:
        raise InputError(f"{what} asks for its terms to be accepted on the hub first.") from None
    except errors.RepositoryNotFoundError:
        raise InputError(
            f"{what} is not on the hub, or not for you: check the name, and log in (hf auth login)."
        ) from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled):
        raise InputError(
            f"{what} was not fetched before, and the hub cannot be reached: go online once."
        ) from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no status"
        hint = "log in (hf auth login)" if status in (401, 403) else "try again later"
        raise InputError(f"{what}: the hub answered with {status}; {hint}.") from None
    except (errors.HFValidationError, OSError) as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        raise InputError(f"{what} cannot be had from the hub ({line}).") from None
