"""The one family of errors: each says what was seen, what was wanted and what to do.

Subsystems derive their own class and keep the facts of the message in fields, so that a
caller reads `error.missing`, never the text. The exit code belongs to the family.
"""

from __future__ import annotations

import traceback
from typing import ClassVar

from .escaping import printable


class ApaError(Exception):
    """Base of every error that a user may see. `str()` joins the three parts."""

    exit_code: ClassVar[int] = 2

    def __init__(self, saw: str, wanted: str, do: str) -> None:
        super().__init__(saw, wanted, do)
        self.saw, self.wanted, self.do = saw, wanted, do

    def __str__(self) -> str:
        return f"{self.saw}; wanted {self.wanted}. {self.do}"


class InputError(ApaError):
    """Misuse or bad input: exit code 2."""


class GateError(ApaError):
    """A gate (parity, verification) failed: exit code 1."""

    exit_code = 1


class MissingError(ApaError):
    """This machine lacks a component: exit code 3. `do` holds the command that adds it."""

    exit_code = 3


class LibraryRefusalError(InputError):
    """A library refused what it was given, or memory ended. `library`, `reason`."""

    def __init__(self, library: str, reason: str, wanted: str, do: str) -> None:
        super().__init__(f"{library}: {reason}", wanted, do)
        self.library, self.reason = library, reason


# Whose refusals are about the user's file or network: what they raise is no bug of ours.
_LIBRARIES = {
    **{name: name for name in ("onnx", "onnx_ir", "onnxscript", "onnxruntime", "openvino", "polygraphy")},
    "google": "protobuf",
    "safetensors": "safetensors",
    "torch": "torch",
}
_LONGEST_REASON = 300
_PATHS = ("Symlink loop", "embedded null byte")  # Python's errors of paths that are no OSError


def find_refusal(error: BaseException) -> LibraryRefusalError | None:
    """What a library's own exception says of the input; None where our code raised it, which is a bug.

    Whose it is follows from the class of the exception and from the innermost frame of its traceback.
    """
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    reason = lines[0][:_LONGEST_REASON]
    if isinstance(error, MemoryError):
        do = "Check the shapes in it, or use a machine with more memory."
        return LibraryRefusalError("out of memory", reason, "a model whose tensors fit into memory", do)
    if isinstance(error, RecursionError):
        return LibraryRefusalError(
            "nested too deeply", reason, "a file that was made by an exporter", "Check the file."
        )
    if "surrogates not allowed" in reason:  # Python's own error, or that of a library that writes JSON
        shown = printable(error.object) if isinstance(error, UnicodeEncodeError) else reason
        do = "Rename it, or set LC_ALL=C.UTF-8 and PYTHONUTF8=1."
        return LibraryRefusalError("a name in another encoding", shown[:_LONGEST_REASON], "names in UTF-8", do)
    if (isinstance(error, OSError) and error.errno) or any(said in reason for said in _PATHS):
        named = getattr(error, "filename", None)
        what = f"{named}: {error.strerror}" if isinstance(error, OSError) and named is not None else reason
        do = "Check the path, its links and who may read it."
        return LibraryRefusalError(
            "the file system refuses it", what[:_LONGEST_REASON], "a path that can be used", do
        )
    frames = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    for module in (type(error).__module__, frames[-1] if frames else ""):
        if library := _LIBRARIES.get(module.partition(".")[0]):
            do = "Check the file and the network's code; --debug shows where it was refused."
            return LibraryRefusalError(f"{library} refuses it", reason, f"input that {library} can work with", do)
    return None
