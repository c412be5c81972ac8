"""Load a server with parallel clients, and tell pictures, times, errors and memory as JSON.

    python tools/serve/load.py http://127.0.0.1:8000 --clients 200 --seconds 60

Every picture is held against the one that a single request drew from the same prompt and seed
before: a server that mixes answers up is found out. A client that is told to come back later
(429) does, after the time that it was told. Bounded by `--seconds` and `--requests`.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import itertools
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

PROMPTS = ("red apple", "blue car", "a smiling cat face", "green tree")
SEEDS = 2
_LONGEST_PAUSE_S = 5.0


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def picture_hash(self) -> str:
        """Of its pictures alone: times differ."""
        return hashlib.sha256(json.loads(self.body)["data"][0]["b64_json"].encode()).hexdigest()


class Client:
    """One connection, which is kept; HTTP/1.1 with bodies of known length."""

    def __init__(self, url: str, token: str | None) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._host = parts.netloc
        self._token = token
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: bytes = b"") -> Answer:
        """Raises: OSError, EOFError: the server closed the connection in the midst of it."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._address, limit=1 << 24)
        reader, writer = self._streams
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}"]
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        if self._token:
            lines.append(f"Authorization: Bearer {self._token}")
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            pairs = (line.partition(":") for line in head[1:] if line)
            headers = {name.lower(): value.strip() for name, _, value in pairs}
            content = await reader.readexactly(int(headers["content-length"]))
        except (OSError, EOFError):
            self.close()
            raise
        if headers.get("connection") == "close":
            self.close()
        return Answer(int(head[0].split()[1]), headers, content)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


@dataclass
class Result:
    """What happened.

    Attributes:
        seconds: of each accepted request.
        mixed: pictures that do not belong to their prompt and seed.
        memory: bytes of each process, at even distances of requests.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    mixed: int = 0
    memory: list[dict[str, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Load:
    url: str
    token: str | None
    clients: int
    seconds: float
    requests: int
    steps: int | None

    def client(self) -> Client:
        return Client(self.url, self.token)


def bodies(steps: int | None) -> list[bytes]:
    """Requests of every prompt and seed."""
    common = {} if steps is None else {"steps": steps}
    pairs = itertools.product(PROMPTS, range(SEEDS))
    return [json.dumps({"prompt": p, "seed": s, **common}).encode() for p, s in pairs]


async def run(load: Load) -> dict[str, object]:
    """Draw the references, then load the server."""
    path = "/v1/images/generations"
    single = load.client()
    references = {}
    for body in bodies(load.steps):
        answer = await single.ask("POST", path, body)
        if answer.status != 200:
            raise SystemExit(f"a single request must be answered, but got {answer.body!r}")
        references[body] = answer.picture_hash()
    single.close()
    result, started = Result(), time.perf_counter()
    left: Iterator[int] = iter(range(load.requests))
    sample_every = max(1, load.requests // 20)

    async def one_client(offset: int) -> None:
        client = load.client()
        for body in itertools.islice(itertools.cycle(references), offset, None):
            number = next(left, None)
            if number is None or time.perf_counter() - started > load.seconds:
                break
            if number % sample_every == 0:
                result.memory.append(await _memory(client))
            await _one_request(client, body, references[body], result)
        client.close()

    await asyncio.gather(*(one_client(index) for index in range(load.clients)))
    wall = time.perf_counter() - started
    last = load.client()
    result.memory.append(await _memory(last))
    last.close()
    return _summary(result, wall)


async def _one_request(client: Client, body: bytes, reference: str, result: Result) -> None:
    """Until it is accepted."""
    while True:
        begun = time.perf_counter()
        try:
            answer = await client.ask("POST", "/v1/images/generations", body)
        except (OSError, EOFError) as error:
            result.statuses[type(error).__name__] += 1
            return
        result.statuses[str(answer.status)] += 1
        if answer.status == 200:
            result.seconds.append(time.perf_counter() - begun)
            result.mixed += answer.picture_hash() != reference
        if answer.status != 429:
            return
        await asyncio.sleep(min(_LONGEST_PAUSE_S, float(answer.headers["retry-after"])))


async def _memory(client: Client) -> dict[str, int]:
    text = (await client.ask("GET", "/metrics")).body.decode()
    rows = re.findall(r'edgekd_memory_bytes{process="(.*?)"} (\S+)', text)
    return {name: int(float(value)) for name, value in rows}


def _summary(result: Result, wall: float) -> dict[str, object]:
    ordered = sorted(result.seconds) or [float("nan")]

    def percentile(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)

    return {
        "pictures": len(result.seconds),
        "pictures_per_s": round(len(result.seconds) / wall, 3),
        "wall_s": round(wall, 2),
        "statuses": dict(result.statuses),
        "mixed_up": result.mixed,
        "p50_s": percentile(0.5),
        "p99_s": percentile(0.99),
        "memory_mib": [
            {name: value >> 20 for name, value in sample.items()} for sample in result.memory
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("url")
    parser.add_argument("--token")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--steps", type=int, help="default: the model's")
    options = parser.parse_args()
    if not (1 <= options.clients <= 1000 and 0 < options.seconds <= 3600 and options.requests > 0):
        sys.exit("1 to 1000 clients, at most an hour, and a request at least")
    print(json.dumps(asyncio.run(run(Load(**vars(options)))), indent=1))


if __name__ == "__main__":
    main()
