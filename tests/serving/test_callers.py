"""What is on its way in over gRPC: counted by the kernel's numbers, refused beyond the limits."""

import contextlib
import socket
import threading
import time

import grpc
import pytest
from serving_models import small_model
from serving_process import ServerProcess
from socket_clients import MIB, ROW, connect, wait_until

from apa_deploy.serving.budget import Budget
from apa_deploy.serving.callers import Callers
from apa_deploy.serving.errors import OverloadedError, SlowClientError
from apa_deploy.serving.sockets import OpenSocket

INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
ADDRESS = ("127.0.0.1", 40000)


class Waiting:
    """A stand-in of `AwaitedMessage`, outside an event loop."""

    def __init__(self):
        self.reasons = []

    def end(self, reason):
        self.reasons.append(reason)


class Client:
    """A stand-in of gRPC's context, and of its connection."""

    def __init__(self, callers, port=ADDRESS[1]):
        self.callers, self.port, self.received = callers, port, 0
        self.invocation_metadata = lambda: [("user-agent", "x" * 80)]
        self.add_done_callback = lambda done: setattr(self, "leave", lambda: done(None))

    def peer(self):
        return f"ipv4:127.0.0.1:{self.port}"

    @contextlib.contextmanager
    def read(self):
        """A call of it waits for a message."""
        self.callers.enter(self)
        read = Waiting()
        self.callers.of(self).reads[read] = None
        yield read
        self.callers.of(self).reads.pop(read, None)
        self.leave()

    def finish(self, size):
        self.callers.finish(self.callers.of(self), size)

    @property
    def socket(self):
        return OpenSocket(0, 1, ("127.0.0.1", self.port), self.received, 0.0)


@pytest.fixture
def callers():
    return Callers(Budget(100 * MIB), 64 * MIB, 30.0)


@pytest.fixture
def budget(callers):
    return callers._budget


def test_a_message_counts_until_it_is_whole(callers, budget):
    client = Client(callers)
    with client.read():
        client.received = 10 * MIB
        callers.look([client.socket])
        assert 9.9 * MIB < budget.taken <= 10 * MIB
        with budget.share() as share, pytest.raises(OverloadedError, match=r"bytes of requests"):
            share.take(95 * MIB)
        client.finish(10 * MIB)
        assert budget.taken < MIB / 10
    callers.look([client.socket])
    assert budget.taken == 0


def test_what_goes_with_many_small_messages_does_not_add_up(callers, budget):
    """Beside a stream that waits for its next message all the time."""
    client = Client(callers)
    with client.read():
        for _ in range(1000):
            with client.read():
                client.received += 300  # a head, frames, and the message
                client.finish(100)
            callers.look([client.socket])
        assert budget.taken < 1000


def test_what_goes_with_the_messages_of_one_stream_does_not_add_up(callers, budget):
    """Measured: 40 to 50 bytes beside each message."""
    client = Client(callers)
    with client.read():
        for _ in range(1000):
            client.received += 150
            client.finish(100)
            callers.look([client.socket])
        assert budget.taken == 0


def test_pings_of_an_idle_stream_do_not_add_up(callers, budget, monkeypatch):
    client, start = Client(callers), time.monotonic()
    with client.read() as read:
        client.received = 1 << 14  # a new connection's own
        for minute in range(3 * 24 * 60):
            monkeypatch.setattr(time, "monotonic", lambda minute=minute: start + 60 * minute)
            client.received += 2 * 17
            callers.look([client.socket])
        assert (budget.taken, read.reasons) == (0, [])


def test_messages_behind_one_that_is_answered_are_not_late(callers, monkeypatch):
    """An idle stream beside one whose next messages lie there whole while the first is executed."""
    client, start = Client(callers), time.monotonic()
    with client.read() as read:
        callers.enter(client)  # the other, which reads nothing now
        client.received = MIB
        for seconds in (0, 31):
            monkeypatch.setattr(time, "monotonic", lambda seconds=seconds: start + seconds)
            callers.look([client.socket])
        assert read.reasons == []


def test_a_connection_is_forgotten_once_it_is_gone(callers):
    client = Client(callers)
    with client.read():
        callers.look([client.socket])
        assert callers.addresses() == {ADDRESS}
    callers.look([client.socket])
    assert (callers.calls, callers.addresses(), len(callers._callers)) == (0, set(), 1)
    callers.look([])
    assert not callers._callers


def test_an_old_connection_does_not_count_what_it_once_sent(callers, budget):
    client = Client(callers)
    with client.read():
        client.received = 50 * MIB
        callers.look([client.socket])
    callers.look([client.socket])
    with client.read():
        callers.look([client.socket])
        assert budget.taken == 0


def test_the_largest_go_first_and_no_more_than_must(callers, budget):
    clients = [Client(callers, port) for port in (1, 2, 3)]
    with contextlib.ExitStack() as stack:
        reads = [stack.enter_context(client.read()) for client in clients]
        for client, size in zip(clients, (20, 60, 40), strict=True):
            client.received = size * MIB
        callers.look([client.socket for client in clients])
        assert [list(map(type, read.reasons)) for read in reads] == [[], [OverloadedError], []]
        assert 59 * MIB < budget.taken <= 60 * MIB


def test_half_a_message_has_a_time_limit(callers, monkeypatch):
    client, start = Client(callers), time.monotonic()
    with client.read() as read:
        client.received = MIB
        for seconds, reasons in ((0, []), (29, []), (31, [SlowClientError])):
            monkeypatch.setattr(time, "monotonic", lambda seconds=seconds: start + seconds)
            callers.look([client.socket])
            assert list(map(type, read.reasons)) == reasons


@contextlib.contextmanager
def half_way(address, count):
    """A way to `address` that hands on so many bytes of each connection, and no more. Yields its own address."""
    stack = contextlib.ExitStack()

    def accept():
        with contextlib.suppress(OSError):
            while True:
                client, server = (stack.enter_context(one) for one in (listening.accept()[0], connect(address)))
                stack.callback(hang_up, client)
                stack.callback(hang_up, server)
                threading.Thread(target=hand_on, args=(client, server, count), daemon=True).start()
                threading.Thread(target=hand_on, args=(server, client, 1 << 40), daemon=True).start()

    with stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        stack.callback(hang_up, listening)
        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def hang_up(connection):
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def hand_on(here, there, count):
    with contextlib.suppress(OSError):
        while count > 0 and (part := here.recv(min(count, 1 << 16))):
            there.sendall(part)
            count -= len(part)


def send_message(channel, path, size):
    return channel.stream_stream(path)(iter([bytes(size)]), timeout=60)


@pytest.mark.parametrize("path", [INFER, STREAM], ids=["a call", "a stream"])
def test_half_sent_messages_are_bounded(tmp_path, path):
    small_model(tmp_path / "act.onnx")
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(ServerProcess(tmp_path, "--max-pending-mib", 32, "--read-timeout", 5))
        kept = stack.enter_context(contextlib.ExitStack())  # to close a channel may wait for what is stuck half way
        address = stack.enter_context(half_way(server.grpc, 20 * MIB))
        channels = [kept.enter_context(grpc.insecure_channel(address, options)) for _ in range(6)]
        calls = [send_message(channel, path, 24 * MIB) for channel in channels]
        codes = [call.code() for call in calls]
        assert set(codes) == {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert any("on their way in" in call.details() for call in calls)
        wait_until(lambda: server.metric("apa_pending_bytes") == 0)
        assert server.infer(ROW)[0] == 200
        assert server.stop() == 0
