"""A client that begins long gRPC messages and never ends them, in as much HTTP/2 (RFC 9113) as that takes."""

from __future__ import annotations

import socket
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_HEADERS, ACK = 4, 1
INITIAL_WINDOW_SIZE = 4
LONGEST_FRAME = 16384
FIRST_WINDOW = 65535


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def headers(path: str) -> bytes:
    """As HPACK literals that are not indexed."""
    fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "x",
              "te": "trailers", "content-type": "application/grpc"}
    return b"".join(b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
                    for name, value in fields.items())


class Connection:
    """Several calls of `path` on one connection, each with a message of `length` bytes under way."""

    def __init__(self, address: str, path: str, calls: int, length: int) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)))
        self._window = FIRST_WINDOW
        self._stream_window = FIRST_WINDOW
        self._received = b""
        self._streams = {}
        out = PREFACE + frame(SETTINGS, 0, 0)
        for stream in range(1, 2 * calls, 2):
            out += frame(HEADERS, END_HEADERS, stream, headers(path))
            # What is left to send, but for the last byte; and how much the service wants now.
            self._streams[stream] = [b"\0" + struct.pack(">I", length), length - 1, FIRST_WINDOW]
        self._socket.sendall(out)
        self._socket.settimeout(0.001)

    def close(self) -> None:
        self._socket.close()

    def send_some(self) -> int:
        """Sends what the service takes without waiting; OSError if it has ended the connection."""
        self._receive()
        sent = 0
        out = b""
        for stream, state in self._streams.items():
            while True:
                prefix, left, window = state
                size = min(left, self._window - len(prefix), window - len(prefix),
                           LONGEST_FRAME - len(prefix))
                if size <= 0:
                    break
                out += frame(DATA, 0, stream, prefix + bytes(size))
                self._window -= len(prefix) + size
                state[:] = [b"", left - size, window - len(prefix) - size]
                sent += size
        self._socket.settimeout(5)
        self._socket.sendall(out)
        self._socket.settimeout(0.001)
        return sent

    def _receive(self) -> None:
        try:
            received = self._socket.recv(1 << 20)
        except TimeoutError:
            return
        if not received:
            raise OSError("the service has closed the connection")
        self._received += received
        while len(self._received) >= 9:
            length = int.from_bytes(self._received[:3], "big")
            kind, flags, stream = struct.unpack(">BBI", self._received[3:9])
            if len(self._received) < 9 + length:
                return
            self._take(kind, flags, stream, self._received[9:9 + length])
            self._received = self._received[9 + length:]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == SETTINGS and not flags & ACK:
            for key, value in struct.iter_unpack(">HI", payload):
                if key == INITIAL_WINDOW_SIZE:
                    for state in self._streams.values():
                        state[2] += value - self._stream_window
                    self._stream_window = value
            self._socket.sendall(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self._socket.sendall(frame(PING, ACK, 0, payload))
        elif kind == WINDOW_UPDATE:
            more = int.from_bytes(payload, "big")
            if stream == 0:
                self._window += more
            elif stream in self._streams:
                self._streams[stream][2] += more
        elif kind in (RST_STREAM, HEADERS):
            # Refused, or answered before its end.
            self._streams.pop(stream, None)
        elif kind == GOAWAY:
            raise OSError("the service has ended the connection")
