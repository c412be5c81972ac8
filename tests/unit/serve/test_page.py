"""How the page's files are served; what it does is tested in a browser."""

import asyncio
import json
import re
import shutil
from typing import Any

import httpx
import pytest
from fixtures.workers import FakeWorker, client_of

from edgekd.serve.catalog import Catalog
from edgekd.serve.page import PageFiles
from edgekd.serve.settings import ServeSettings

JAVASCRIPT = re.compile(r'from "(\./[a-z]+\.js)"')


def ask(start: Any, *requests: tuple[str, str, dict[str, str]]) -> list[httpx.Response]:
    async def main() -> list[httpx.Response]:
        app, dispatcher = await start([FakeWorker()], token="a-token-of-a-test")
        async with client_of(app) as client:
            answers = [
                await client.request(method, url, headers=headers)
                for method, url, headers in requests
            ]
        await dispatcher.close()
        return answers

    return asyncio.run(main())


def test_files_are_small_and_whole():
    files = PageFiles.read()
    assert sum(map(len, files.files.values())) <= 300_000
    texts = {name: body.decode() for name, body in files.files.items()}
    index = files.index.decode()
    for name in re.findall(r'(?:href|src)="page/[0-9a-f]{16}/([^"]+)"', index):
        assert name in texts
    assert "{{" not in index
    imported = {one[2:] for text in texts.values() for one in JAVASCRIPT.findall(text)}
    scripts = {name for name in texts if name.endswith(".js")}
    assert imported | {"app.js"} == scripts, "all are used, and all that are used are there"
    # What the policy forbids, or would need another host.
    for name, text in texts.items():
        assert not re.search(r"(?:src|href)=\"(?:https?:)?//|<style|style=\"| on\w+=\"", text), name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|\beval\(", text), name
        assert "https://" not in text, name


def test_the_digest_is_of_names_and_contents(tmp_path):
    found = set()
    for name, content in (("a.js", "x"), ("a.js", "y"), ("b.js", "x")):
        folder = tmp_path / str(len(found))
        folder.mkdir()
        (folder / name).write_text(content, encoding="utf-8")
        (folder / "index.html").write_text('<script src="{{files}}/a.js">', encoding="utf-8")
        (folder / "notes.txt").write_text(content, encoding="utf-8")
        files = PageFiles.read(folder)
        assert set(files.files) == {name, "index.html"}
        assert files.index == f'<script src="page/{files.digest}/a.js">'.encode()
        found.add(files.digest)
    assert len(found) == 3


def test_how_they_are_served(start):
    digest = PageFiles.read().digest
    known = {"If-None-Match": f'"{digest}"'}
    script = f"/page/{digest}/app.js"
    index, head, unchanged, part, kept, *missing = ask(
        start,
        ("GET", "/", {}),  # without the token, which the page asks for
        ("HEAD", "/", {}),
        ("GET", "/", known),
        ("GET", script, {}),
        ("GET", script, known),
        ("GET", "/page/0123456789abcdef/app.js", {}),
        ("GET", f"/page/{digest}/index.html", {}),
        ("GET", f"/page/{digest}/..%2f__init__.py", {}),
        ("GET", f"/page/{digest}/__init__.py", {}),
        ("GET", "/page/", {}),
    )
    assert (index.status_code, index.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert index.headers["cache-control"] == "no-cache"
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == index.headers["content-length"]
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert (kept.status_code, kept.headers["etag"]) == (304, part.headers["etag"])
    assert (part.status_code, part.headers["content-type"]) == (
        200,
        "text/javascript; charset=utf-8",
    )
    assert part.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert [answer.status_code for answer in missing] == [404] * 5
    for answer in (index, head, unchanged, part):
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [
        (["b", "a", "b"], ("b", "a")),
        ([f"{i}" for i in range(9)], ("0", "1", "2", "3", "4", "5")),
        (["x" * 121, "", 7, None, "ok"], ("ok",)),
        ("abc", ()),
        (None, ()),
    ],
)
def test_examples_are_the_exports_own_prompts(tmp_path, described, prompts, expected):
    folder = tmp_path / "export"
    shutil.copytree(described, folder)
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**manifest, "pictures": {"prompts": prompts}}), encoding="utf-8")
    catalog = Catalog(ServeSettings({"starter": folder}))
    assert catalog.default.examples == expected
