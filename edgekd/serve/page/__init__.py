"""The page for people: static files, read once.

All but `index.html` lie under an address that their content decides, so that browsers keep them
for good; modules find each other there, and no build step rewrites their imports.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI, Request, Response

from edgekd.serve import problems

_FOLDER = Path(__file__).parent
_INDEX = "index.html"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_PLACE = b"{{files}}"  # in the index: where the other files are
_METHODS = ["GET", "HEAD"]
_HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' blob:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True)
class PageFiles:
    """The files by name, and the digest of them all."""

    files: dict[str, bytes]
    digest: str

    @classmethod
    def read(cls, folder: Path = _FOLDER) -> PageFiles:
        files = {
            path.name: path.read_bytes()
            for path in sorted(folder.iterdir())
            if path.suffix in _TYPES
        }
        digest = hashlib.sha256()
        for name, content in files.items():
            digest.update(f"{name} {len(content)} ".encode() + content)
        return cls(files, digest.hexdigest()[:16])

    @property
    def index(self) -> bytes:
        return self.files[_INDEX].replace(_PLACE, f"page/{self.digest}".encode())


def add_page(app: FastAPI) -> None:
    """Serve the page at `/`."""
    page = PageFiles.read()
    index = page.index

    @app.api_route("/", methods=_METHODS, include_in_schema=False)
    async def show(request: Request) -> Response:
        return _answer(request, index, page.digest, _INDEX, "no-cache")

    @app.api_route("/page/{digest}/{name}", methods=_METHODS, include_in_schema=False)
    async def part(request: Request, digest: str, name: str) -> Response:
        content = page.files.get(name)
        if content is None or digest != page.digest or name == _INDEX:
            raise problems.Problem(404, "the page has no such file", "not_found")
        return _answer(request, content, digest, name, "public, max-age=31536000, immutable")


def _answer(request: Request, content: bytes, digest: str, name: str, caching: str) -> Response:
    tag = f'"{digest}"'
    headers = {**_HEADERS, "ETag": tag, "Cache-Control": caching}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    headers["Content-Type"] = _TYPES[Path(name).suffix]
    return Response(content, headers=headers)
