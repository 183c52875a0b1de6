"""A process of ours that answers calls, one after the other, and can be ended whatever it does.

Three things run in one: executions that may hang (`--isolate`), the reading and writing of large JSON, during which
Python would let no other thread run, and the reference of `--shadow`.

    child = Child("apa_deploy.serving.isolation:open_child_session", path, {...})
    child.call({"x": array})    # in there: the function that open_child_session returned, called with the arrays

Frames on a socket pair: sizes, then a pickle, then the arrays' own bytes. Both ends are this program.
"""

from __future__ import annotations

import importlib
import os
import pickle
import socket
import struct
import subprocess
import sys
import threading
import time
from typing import Any

from ..child_process import ChildError, cause_of_death
from ..errors import ApaError, InputError

_SIZE = struct.Struct("<Q")
_WANTED = ("an answer of the process", "Send the request again; the server's log says more.")
_PARENT_LOOK = 1.0  # seconds between two looks at whether the parent lives


class Child:
    """A process around `target(*arguments)`, which returns (facts, function); `call` calls that function there.

    Args:
        target: "module:function".
        nice: added to the niceness of the process.

    Raises:
        InputError: `target` refused its arguments.
        ChildError: it raised something else, or the process ended.
    """

    def __init__(self, target: str, *arguments: Any, nice: int = 0) -> None:
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, str(theirs.fileno()), str(os.getpid())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # the server's standard error holds JSON lines alone
                start_new_session=True,  # an interrupt from the terminal is the server's to answer
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        self.facts = self.call(target, arguments, nice)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def call(self, *arguments: Any) -> Any:
        """The function's result. Blocks; callers of several threads take turns.

        Raises:
            InputError: the function refused (`ApaError` there).
            ChildError: it raised something else, or the process ended.
        """
        with self._lock:
            try:
                _send(self._socket, arguments)
                kind, value = _receive(self._socket)
            except (OSError, EOFError) as error:
                raise ChildError(self._describe_end(), *_WANTED) from error
        if kind == "refused":
            refusal, parts = value
            raise refusal(*parts)
        if kind == "failed":
            raise ChildError(value, *_WANTED)
        return value

    def kill(self) -> None:
        """End the process; a call that waits for it raises `ChildError`."""
        self._process.kill()

    def close(self) -> None:
        """End the process and free what belongs to it; no call may be waiting."""
        self.kill()
        self._process.wait()
        self._socket.close()

    def _describe_end(self) -> str:
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            return "its process does not answer"
        return cause_of_death(code)


def _send(connection: socket.socket, value: Any) -> None:
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    parts = [memoryview(data), *(buffer.raw() for buffer in buffers)]
    connection.sendall(_SIZE.pack(len(parts)) + b"".join(_SIZE.pack(len(part)) for part in parts))
    for part in parts:
        connection.sendall(part)


def _receive(connection: socket.socket) -> Any:
    (count,) = _SIZE.unpack(_read(connection, _SIZE.size))
    sizes = [_SIZE.unpack(_read(connection, _SIZE.size))[0] for _ in range(count)]
    data, *buffers = [_read(connection, size) for size in sizes]
    return pickle.loads(data, buffers=buffers)


def _read(connection: socket.socket, size: int) -> bytearray:
    data = bytearray(size)
    view, at = memoryview(data), 0
    while at < size:
        count = connection.recv_into(view[at:])
        if not count:
            raise EOFError
        at += count
    return data


def _main(descriptor: int, parent: int) -> None:
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()
    with socket.socket(fileno=descriptor) as connection:
        function: Any = _open
        while True:
            try:
                arguments = _receive(connection)
            except (EOFError, OSError):
                return
            try:
                value = function(*arguments)
                if function is _open:
                    value, function = value
                answer = "done", value
            except ApaError as error:
                plain = type(error).__init__ is ApaError.__init__  # others want more than the three parts
                answer = "refused", (type(error) if plain else InputError, (error.saw, error.wanted, error.do))
            except Exception as error:  # noqa: BLE001  whatever a runtime raises is the call's answer
                answer = "failed", f"{type(error).__name__}: {error}"
            _send(connection, answer)


def _open(target: str, arguments: tuple[Any, ...], nice: int) -> Any:
    if nice:
        os.nice(nice)
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)(*arguments)


def _end_with_parent(parent: int) -> None:
    """A process whose call hangs does not see the socket close."""
    while os.getppid() == parent:
        time.sleep(_PARENT_LOOK)
    os._exit(1)


if __name__ == "__main__":
    _main(*map(int, sys.argv[1:]))
