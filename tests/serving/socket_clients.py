"""Clients of plain sockets, which can stop, hang up and send anything; and the wait for what they bring about."""

import json
import re
import socket
import time

ROW = [[1.0, 2.0, 3.0, 4.0]]
MIB = 1 << 20


def connect(address, receive_buffer=None):
    connection = socket.socket()
    if receive_buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    host, port = address.split(":")
    connection.settimeout(60)
    connection.connect((host, int(port)))
    return connection


def infer_request(model, head="", turns=4.0):
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [*ROW[0][:3], turns]}
    body = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    lines = f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: h\r\n{head}Content-Length: {len(body)}\r\n\r\n"
    return lines.encode() + body


def read_all(connection):
    received = b""
    while True:
        try:
            part = connection.recv(1 << 16)
        except ConnectionResetError:
            return received
        if not part:
            return received
        received += part


def read_one(connection):
    """One answer of a connection that stays open."""
    received = b""
    while not (head := re.search(rb"\ncontent-length: (\d+).*?\r\n\r\n", received, re.DOTALL)):
        received += connection.recv(1 << 16)
    while len(received) < head.end() + int(head[1]):
        received += connection.recv(1 << 16)
    return received


def statuses(received):
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3})", received)]


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
