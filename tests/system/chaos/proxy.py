"""A TCP proxy before a Redis server that loses replies, resets connections and stalls."""

import asyncio
import random
import threading
from collections import Counter

from tests.processes import HOST, free_port

#: Commands whose reply may be swallowed after the server has executed them, and how much more
#: often than the odds say, because some of them are rare.
LOSABLE = {b"EVALSHA": 1, b"XREADGROUP": 2, b"XAUTOCLAIM": 10}


class Proxy:
    """Passes bytes on; each command meets one of the faults with the odds given.

    `odds` maps a fault to its probability for each chunk that a client sends: `lose` (the reply
    is thrown away and the connection closed), `reset` (closed before the server sees it) and
    `stall` (the reply comes late). `counts` tells how often each came about.
    """

    def __init__(self, server_port: int, seed: int, **odds: float) -> None:
        self.server_port, self.port = server_port, free_port()
        self.url = f"redis://{HOST}:{self.port}/0"
        self.odds = odds
        self.counts: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> "Proxy":
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join(10)

    def calm(self) -> None:
        """From now on pass everything on."""
        self.odds = {}

    async def _run(self) -> None:
        self._loop, self._done = asyncio.get_running_loop(), asyncio.Event()
        async with await asyncio.start_server(self._serve, HOST, self.port):
            self._ready.set()
            await self._done.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection(HOST, self.server_port)
        except OSError:
            writer.close()
            return
        fate: dict[str, str] = {}
        try:
            await asyncio.gather(
                self._requests(reader, up_writer, fate), self._replies(up_reader, writer, fate)
            )
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # one side is gone, or the test is over: so is the other
        finally:
            writer.close()
            up_writer.close()

    async def _requests(self, reader, writer, fate) -> None:
        while data := await reader.read(65536):
            drawn = self._draw(data)
            if drawn == "reset":
                raise EOFError
            fate["next"] = drawn
            writer.write(data)
            await writer.drain()
        raise EOFError

    async def _replies(self, reader, writer, fate) -> None:
        while data := await reader.read(65536):
            drawn = fate.pop("next", "")
            if drawn == "lose":
                raise EOFError
            if drawn == "stall":
                await asyncio.sleep(self._random.uniform(0.2, 2.0))
            writer.write(data)
            await writer.drain()
        raise EOFError

    def _draw(self, data: bytes) -> str:
        command = next((name for name in LOSABLE if name in data), b"")
        for fault, odds in self.odds.items():
            factor = LOSABLE.get(command, 0) if fault == "lose" else 1
            if self._random.random() < odds * factor:
                self.counts[f"{fault} {command.decode() or 'other'}"] += 1
                return fault
        return ""
