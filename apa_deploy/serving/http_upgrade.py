"""uvicorn's HTTP protocol, and no other: a wish for one (`Upgrade`) is ignored, as RFC 9110 has it in 7.8.

The parser takes what follows such a head for the other protocol; so it is given the head again without the wish.
"""

from __future__ import annotations

from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class PlainProtocol(HttpToolsProtocol):
    """One connection."""

    _wishes = False  # the head that was just read wants another protocol

    def on_headers_complete(self) -> None:
        self._wishes = self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"
        if not self._wishes:
            self.on_head()

    def on_head(self) -> None:
        """The whole head of a request is there."""
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self._wishes:
            super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            while data:
                data = self._feed_parser(data)
        except httptools.HttpParserError:
            message = "Invalid HTTP request received."
            self.logger.warning(message)
            self.send_400_response(message)

    def _feed_parser(self, data: bytes) -> bytes:
        """Parse it; what is to be parsed again."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._wishes:
                again = self._head_without_wish() + data[upgrade.args[0] :]
                self.parser = _new_parser(self)
                return again
        return b""

    def _head_without_wish(self) -> bytes:
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        fields = b"".join(name + b": " + value + b"\r\n" for name, value in self.headers if name != b"upgrade")
        return method + b" " + self.url + b" HTTP/" + version + b"\r\n" + fields + b"\r\n"


def _new_parser(protocol: Any) -> Any:
    parser = httptools.HttpRequestParser(protocol)
    if hasattr(parser, "set_dangerous_leniencies"):  # as uvicorn's own, so that what follows a last request is none
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser
