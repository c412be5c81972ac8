"""Files on their way to an agent: only what it lacks, in chunks; one that is lost is sent again."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from edgekd.devices.link import Link, RefusedError, Request, ask_while_busy
from edgekd.devices.names import MAX_FILES, problem_of_files
from edgekd.devices.schema import BlobQuery, BlobState, BlobStates, DeviceLimits
from edgekd.errors import InputError
from edgekd.file_record import ARTIFACT_FILE
from edgekd.files import hash_file
from edgekd.model_card import CARD_FILE
from edgekd.progress import Progress

# What edgekd writes beside a model and no runtime reads.
_OURS = (ARTIFACT_FILE, CARD_FILE)
_FIRST_CHUNK, _LEAST_CHUNK = 1 << 18, 1 << 14
# A chunk takes about so long on its way: one that is lost costs no more.
_CHUNK_S = 2.0
_TELL_S = 5.0
_MOST_SETBACKS = 5  # of one file: an agent that never has enough would have no end


@dataclass(frozen=True)
class LocalFile:
    """A file of this machine; `digest`: SHA-256 of its content."""

    path: Path
    digest: str
    size: int


def folder_files(folder: Path) -> dict[str, LocalFile]:
    """What an agent needs of a folder, by path in it.

    Raises:
        InputError: a name or a kind of file that no agent takes, or none at all.
    """
    paths = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in _OURS
    }
    problem = problem_of_files(paths) if paths else "a folder must have files, but got none"
    if problem or len(paths) > MAX_FILES:
        found = problem or f"{len(paths)} files, more than {MAX_FILES}"
        raise InputError(f"`{folder}` must be a model that agents take", found)
    return {
        name: LocalFile(path, hash_file(path), path.stat().st_size) for name, path in paths.items()
    }


@dataclass
class Uploads:
    """Sends files to one agent."""

    link: Link
    limits: DeviceLimits
    progress: Progress
    chunk: int = _FIRST_CHUNK

    def send(self, files: Iterable[LocalFile]) -> None:
        """Upload what the agent lacks of these.

        Raises:
            InputError: a file that it does not take, or that changes while it is sent.
            LostDeviceError: see `Link.ask`.
        """
        wanted = {file.digest: file for file in files}
        self._check(list(wanted.values()))
        lacking = {
            state.digest: state
            for state in self._states(list(wanted))
            if state.digest in wanted and not state.complete
        }
        left = sum(wanted[digest].size - state.received for digest, state in lacking.items())
        if not lacking:
            return
        told = _Told(self.link.name, left, self.progress)
        for digest, state in lacking.items():
            self._send(wanted[digest], state, told)

    def _check(self, files: list[LocalFile]) -> None:
        largest = max(files, key=lambda file: file.size)
        if largest.size > self.limits.file_bytes:
            raise InputError(
                f"files for device `{self.link.name}` must be at most {self.limits.file_bytes} "
                "bytes long",
                f"{largest.size} ({largest.path})",
            )
        total = sum(file.size for file in files)
        if total > self.limits.store_bytes:
            raise InputError(
                f"models for device `{self.link.name}` must fit in its {self.limits.store_bytes} "
                "bytes",
                str(total),
                "Measure fewer at a time, or give its agent more room.",
            )

    def _states(self, digests: list[str]) -> list[BlobState]:
        found: list[BlobState] = []
        rest = iter(digests)
        while part := list(islice(rest, MAX_FILES)):
            request = Request("POST", "/v1/blobs", body=BlobQuery(digests=part))
            found += self.link.ask(request, BlobStates).blobs
        return found

    def _send(self, file: LocalFile, state: BlobState, sent: _Told) -> None:
        with open(file.path, "rb") as stream:
            setbacks = 0
            while not state.complete:
                stream.seek(state.received)
                content = stream.read(min(self.chunk, self.limits.chunk_bytes))
                after = self._put(file, state.received, content)
                sent(max(0, after.received - state.received))
                setbacks += after.received <= state.received and not after.complete
                if setbacks > _MOST_SETBACKS:
                    raise InputError(
                        f"device `{self.link.name}` must take `{file.path.name}`",
                        f"{after.received} of {file.size} bytes, again and again",
                    )
                state = after

    def _put(self, file: LocalFile, offset: int, content: bytes) -> BlobState:
        """Send one chunk; gives what the agent has then, also where it was another chunk's turn."""
        started = time.monotonic()
        query = {"offset": offset, "size": file.size}
        request = Request("PUT", f"/v1/blobs/{file.digest}", query, content)
        try:
            state = ask_while_busy(self.link, request, BlobState, "too_many_requests")
        except RefusedError as error:
            if error.code == "wrong_size":  # somebody began it so: it begins anew
                return BlobState(digest=file.digest, received=0, complete=False)
            # It arrived, but the answer did not; or it was damaged on its way.
            if error.code not in ("wrong_offset", "hash_mismatch"):
                raise
            return self.link.ask(Request("GET", f"/v1/blobs/{file.digest}"), BlobState)
        took = time.monotonic() - started
        if took < _CHUNK_S / 2:
            self.chunk = min(2 * self.chunk, self.limits.chunk_bytes)
        elif took > 2 * _CHUNK_S:
            self.chunk = max(self.chunk // 2, _LEAST_CHUNK)
        return state


class _Told:
    """Says now and then how far an upload is; a bar would stand within those of its callers."""

    def __init__(self, device: str, total: int, progress: Progress) -> None:
        self._device = device
        self._total = total
        self._progress = progress
        self._done = 0
        self._last = time.monotonic()

    def __call__(self, count: int) -> None:
        self._done += count
        if time.monotonic() - self._last >= _TELL_S:
            self._last = time.monotonic()
            done, total = (f"{size / 1e6:.1f}" for size in (self._done, self._total))
            self._progress.info(f"  upload to `{self._device}`: {done} of {total} MB")
