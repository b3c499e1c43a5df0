"""A TCP proxy that stands for the network between a verify and a draft service.

What a peer sees of a bad network is bytes that come late, stand still or break off: so much a
proxy can do anywhere, without the kernel's help. Lost packets show as pauses, because TCP sends
them again.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
import threading
from collections.abc import Coroutine
from typing import Any


@dataclasses.dataclass(frozen=True)
class Network:
    """How bytes travel, in each direction."""

    delay: float = 0.0
    # Share of the pieces that are "lost": they, and all behind them, come `pause` seconds later.
    loss: float = 0.0
    pause: float = 0.0
    # Nothing arrives, and nobody is told.
    silent: bool = False


GOOD = Network()


class Proxy:
    """Forwards connections on `address` to `target`, through the `network` of the moment."""

    def __init__(self, target: str, seed: int) -> None:
        self.set_target(target)
        self._random = random.Random(seed)
        self._network = GOOD
        self._good = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self._call(self._apply(GOOD))
        self.address = "127.0.0.1:{}".format(self._server.sockets[0].getsockname()[1])

    def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def set_network(self, network: Network) -> None:
        self._call(self._apply(network))

    async def _apply(self, network: Network) -> None:
        self._network = network
        if network.silent:
            self._good.clear()
        else:
            self._good.set()

    def set_target(self, target: str) -> None:
        """For connections that are made from now on; the others stay where they are."""
        self._host, _, port = target.rpartition(":")
        self._port = int(port)

    def cut(self) -> None:
        """Breaks all connections; new ones can be made."""
        self._call(self._cut())

    async def _cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    def close(self) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)

    async def _close(self) -> None:
        # In the loop's thread, as all that touches the server: it counts its connections there.
        self._server.close()
        await self._cut()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(self._host, self._port)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, back}
        self._writers |= ends
        try:
            await asyncio.wait([asyncio.create_task(self._forward(reader, back)),
                                asyncio.create_task(self._forward(there, writer))],
                               return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._writers -= ends
            for end in ends:
                end.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Ends with the connection. Pieces are under way side by side, and stay in order."""
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        delivery = asyncio.create_task(self._deliver(under_way, writer))
        try:
            while piece := await reader.read(1 << 16):
                network = self._network
                lost = self._random.random() < network.loss
                due = self._loop.time() + network.delay + (network.pause if lost else 0)
                under_way.put_nowait((due, piece))
        except OSError:
            pass
        under_way.put_nowait((0.0, b""))
        await delivery

    async def _deliver(self, under_way: asyncio.Queue[tuple[float, bytes]],
                       writer: asyncio.StreamWriter) -> None:
        try:
            while (item := await under_way.get())[1]:
                await asyncio.sleep(max(0.0, item[0] - self._loop.time()))
                await self._good.wait()
                writer.write(item[1])
                await writer.drain()
        except OSError:
            pass
