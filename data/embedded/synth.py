"""espeak-ng by ctypes: text and a voice in, 22.05 kHz samples out.

The library keeps its state in global variables (some of it survives even `espeak_Terminate`:
the phase of the pitch flutter, for one), so what it says depends on what it said before. A
`Synthesiser` therefore loads a private copy of the library, which starts from a known state;
the same calls in the same order, `seed` among them, then give the same samples in any process.

Voices are added by writing files into a temporary data folder (`voices/!v/NAME`). espeak-ng falls
back to the bare accent, and says so nowhere, when it does not know a variant; `voice` checks what
it really took.

espeak-ng is GPL-3 and comes with the extra `synth` (package espeakng-loader). Source of the
interface: espeak-ng's speak_lib.h, version 1.52.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType

import numpy as np

from ..errors import InputError

SYNTH_RATE = 22050

_DATA_FILES = ("phondata", "phonindex", "phontab", "intonations", "en_dict")

# Values of speak_lib.h.
_SYNCHRONOUS, _DONT_EXIT = 2, 0x8000
_UTF8 = 1
_RATE, _PITCH, _RANGE = 1, 3, 4


class _Voice(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_char_p),
        ("identifier", ctypes.c_char_p),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


def library() -> tuple[Path, Path]:
    """The paths of the shared library and of its data folder.

    Raises:
      InputError: the extra `synth` is not installed.
    """
    try:
        import espeakng_loader
    except ImportError as error:
        raise InputError(
            "The embedded corpus is spoken by espeak-ng, which is not installed: run "
            "`pip install 'parley-asr[synth]'` (it carries GPL-3 code, so it is an extra)."
        ) from error
    return Path(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path())


class Synthesiser:
    """One private espeak-ng; a context manager.

    Args:
      variants: voice variant files to add, name to content.

    Raises:
      InputError: the extra `synth` is not installed.
    """

    def __init__(self, variants: dict[str, str]):
        source, data = library()
        self._folder = Path(tempfile.mkdtemp(prefix="parley-espeak-"))
        try:
            home = self._folder / "espeak-ng-data"
            (home / "voices" / "!v").mkdir(parents=True)
            shutil.copytree(data / "lang" / "gmw", home / "lang" / "gmw")
            for name in _DATA_FILES:
                os.symlink(data / name, home / name)
            for name, content in variants.items():
                (home / "voices" / "!v" / name).write_text(content, encoding="utf-8")
            copy = self._folder / source.name
            shutil.copyfile(source, copy)
            self._lib = ctypes.CDLL(str(copy))
            self._lib.espeak_GetCurrentVoice.restype = ctypes.POINTER(_Voice)
            rate = self._lib.espeak_Initialize(
                _SYNCHRONOUS, 0, str(self._folder).encode(), _DONT_EXIT
            )
            if rate != SYNTH_RATE:
                raise RuntimeError(f"espeak-ng did not start (espeak_Initialize gave {rate})")
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        self._blocks: list[bytes] = []
        self._callback = _Callback(self._collect)  # kept: ctypes does not hold a reference
        self._lib.espeak_SetSynthCallback(self._callback)

    def _collect(self, samples, count: int, _events) -> int:
        if samples and count:
            self._blocks.append(ctypes.string_at(samples, 2 * count))
        return 0

    def voice(self, accent: str, variant: str = "") -> None:
        """Take an accent (`en-gb-scotland`) and one of the added variants.

        Raises:
          ValueError: espeak-ng does not know the accent or the variant.
        """
        name = f"{accent}+{variant}" if variant else accent
        status = self._lib.espeak_SetVoiceByName(name.encode())
        voice = self._lib.espeak_GetCurrentVoice().contents
        # The languages field is a priority byte, then the name; the identifier is file+variant.
        taken = voice.languages[1:].decode(), (voice.identifier or b"").decode().partition("+")[2]
        if status != 0 or taken != (accent, variant):
            raise ValueError(f"espeak-ng does not know the voice {name!r}: it took {taken}")

    def seed(self, seed: int) -> None:
        """Set the random numbers of breath; without it they come from the time of day."""
        self._lib.espeak_ng_SetRandSeed(ctypes.c_long(seed))

    def say(self, text: str, *, rate: int = 175, pitch: int = 50, span: int = 50) -> np.ndarray:
        """Speak.

        Args:
          text: words and punctuation.
          rate: words a minute.
          pitch: 0 to 99; a step is about 1.7 % of the fundamental frequency; 50 is the voice's own.
          span: 0 to 99, how lively the melody is; 50 is the voice's own.

        Returns:
          [N] int16 at `SYNTH_RATE`.
        """
        for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, span)):
            self._lib.espeak_SetParameter(parameter, value, 0)
        self._blocks.clear()
        data = text.encode()
        status = self._lib.espeak_Synth(data, len(data) + 1, 0, 1, 0, _UTF8, None, None)
        self._lib.espeak_Synchronize()
        if status != 0 or not self._blocks:
            raise RuntimeError(f"espeak-ng did not speak {text!r} (status {status})")
        return np.frombuffer(b"".join(self._blocks), np.int16)

    def phonemes(self, text: str) -> str:
        """The phonemes of `text` in the present voice, in espeak-ng's own notation."""
        self._lib.espeak_TextToPhonemes.restype = ctypes.c_char_p
        pointer = ctypes.c_char_p(text.encode())
        return (self._lib.espeak_TextToPhonemes(ctypes.byref(pointer), _UTF8, 0) or b"").decode()

    def close(self) -> None:
        """Free the library's memory and its temporary folder."""
        if self._folder.exists():
            self._lib.espeak_Terminate()
            shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Synthesiser:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
