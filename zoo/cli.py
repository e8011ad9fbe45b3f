"""The command line: `parley list`, `show`, `transcribe`, `evaluate`, `train`...

What a user did wrong is one sentence on stderr and status 2, never a traceback.
"""

import errno
import os
import sys
from collections.abc import Sequence

from ..data.errors import InputError
from .commands import Command, Commands

_TABLE = {
    "list": Command("commands_lookup", "list_command", "the models that there are"),
    "search": Command("commands_lookup", "search_command", "the model for a purpose"),
    "compare": Command("commands_compare", "compare_command", "models side by side"),
    "card": Command("commands_card", "card_command", "cards checked and kept true"),
    "show": Command("commands_lookup", "show_command", "a model's card"),
    "transcribe": Command("commands_transcribe", "transcribe_command", "recordings to text"),
    "merge": Command("commands_merge", "merge_command", "results of many processes to one file"),
    "stream": Command("commands_stream", "stream_command", "speech to text while it arrives"),
    "evaluate": Command("commands_evaluate", "evaluate_command", "error rates on a corpus"),
    "verify": Command("commands_speakers", "verify_command", "whether two are one speaker"),
    "enrol": Command("commands_speakers", "enrol_command", "make a speaker known"),
    "identify": Command("commands_speakers", "identify_command", "which known speaker it is"),
    "inspect": Command("commands_inspect", "inspect_command", "pictures of what a model does"),
    "train": Command("commands_train", "train_command", "train a preset"),
    "prepare": Command("commands_prepare", "prepare_command", "a corpus as shards, read fast"),
    "plan": Command("commands_plan", "plan_command", "what a run takes on a pod, not run"),
    "mix": Command("commands_mix", "mix_command", "conversations of a corpus, as files"),
    "ngram": Command("commands_ngram", "ngram_command", "a language model over a model's tokens"),
    "import": Command("commands_import", "import_command", "a public model as a folder of ours"),
    "export": Command("commands_export", "export_command", "a model as StableHLO"),
    "fairness": Command("commands_fairness", "fairness_command", "who is served badly; repair it"),
    "site": Command("commands_site", "site_command", "a gallery of the models, as pages"),
    "push": Command("commands_hub", "push_command", "a model to the Hugging Face Hub"),
    "experiment": Command("commands_experiment", "experiment_command", "run a comparison"),
}
_EXAMPLES = """
parley list --streaming --max-params 2e6
parley transcribe rnnt-tiny recording.wav
arecord -q -f S16_LE -r 16000 -c 1 | parley stream rnnt-tiny -
parley evaluate rnnt-tiny --data assistant --split test --by accent
parley verify a.wav b.wav
parley import nvidia/parakeet-tdt-0.6b-v2 --out parakeet
parley train rnnt-tiny --run-dir runs/mine --optimizer.peak-lr 2e-3
parley experiment encoders --dry-run
"""
COMMANDS = Commands(
    "parley",
    "Streaming speech recognition: look models up, run them, train them.",
    _TABLE,
    _EXAMPLES,
)
# What a path that the user gave can make the system say.
_USERS_ERRNO = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status: 0, 2 for a user's mistake, 130 on Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _run(arguments)
        sys.stdout.flush()
        return status
    except InputError as error:
        return _fail(str(error))
    except BrokenPipeError:
        # The reader has seen enough (`parley list | head`). Python would complain at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in _USERS_ERRNO:
            raise
        what = (error.strerror or str(error)).lower()
        where = f"{error.filename}: " if error.filename else ""
        advice = "free some space and run the command again" if _full(error) else "check the path"
        return _fail(f"{where}{what}; {advice}.")
    except KeyboardInterrupt:
        print("parley: interrupted", file=sys.stderr)
        return 130
    except SystemExit as stop:  # --help, or arguments that do not parse
        return stop.code if isinstance(stop.code, int) else 2


def _run(arguments: list[str]) -> int:
    if arguments and arguments[0] in ("-V", "--version", "version"):
        from importlib.metadata import version

        print(f"parley {version('parley-asr')}")
        return 0
    return COMMANDS.run(arguments)


def _fail(sentence: str) -> int:
    print(f"parley: error: {sentence}", file=sys.stderr)
    return 2


def _full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


if __name__ == "__main__":
    sys.exit(main())
