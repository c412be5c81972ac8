"""The apps in TypeScript: core against vectors, the page in Chromium, the command in Node.

Pictures are compared with Python's for the same seed. Times and memory are printed (`pytest -rP`).
"""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fixtures.browsers import CHROMIUM, DESKTOP, PHONE
from fixtures.bundles import reference_picture, toy_export
from fixtures.jvm import MISSING
from fixtures.same_picture import (
    PROMPT,
    SEED,
    bundle,
    cli,
    drawn_by_node,
    drawn_by_the_desktop_app,
    drawn_by_the_page,
    drawn_on_the_jvm,
    psnr,
)
from fixtures.typescript import Toolbox, has_node, make_toolbox, write_places
from fixtures.visits import Host, Visit, renderer_memory
from PIL import Image

from edgekd.bundle.contents import read_contents
from edgekd.bundle.model import copy_model, list_files

# What edgekd cannot bring along: a machine without them has no client to test.
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="needs chromium")
pytestmark = [
    pytest.mark.skipif(not has_node(), reason="needs Node.js 22.12 (or 20.19) and npm"),
    pytest.mark.xdist_group("typescript-apps"),
]
FLOOR_DB = 35.0


@pytest.fixture(scope="module")
def toolbox(tmp_path_factory) -> Toolbox:
    return make_toolbox(tmp_path_factory.mktemp("toolbox"))


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Path:
    return toy_export(tmp_path_factory.mktemp("toy") / "export")


# The core


def test_the_core_agrees_with_the_vectors(toolbox, tmp_path):
    places, report = write_places(tmp_path), tmp_path / "report.json"
    toolbox.run(
        "vitest/vitest.mjs",
        *("run", "--reporter=json", f"--outputFile={report}", "--no-file-parallelism"),
        environment={"EDGEKD_PLACES": str(places)},
    )
    found = json.loads(report.read_text())
    assert found["success"]
    assert found["numPassedTests"] == found["numTotalTests"] > 180


def test_types_hold(toolbox, node):
    """Those that the bundle for Node publishes too."""
    shutil.copy(Path(__file__).with_name("uses_node_bundle.ts"), toolbox.web)
    settings = json.loads((toolbox.web / "tsconfig.json").read_text())
    settings["compilerOptions"]["paths"]["edgekd-bundle"] = [str(node / "index.d.ts")]
    settings["include"].append("uses_node_bundle.ts")
    (toolbox.web / "tsconfig.test.json").write_text(json.dumps(settings))
    for project in ("tsconfig.test.json", "tsconfig.sw.json"):
        toolbox.run("typescript/bin/tsc", "--project", project)


# The web page


@pytest.fixture(scope="module")
def web(toolbox, toy, tmp_path_factory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        toolbox.lend(patch)
        return bundle(toy, "web", tmp_path_factory.mktemp("web") / "bundle")


@needs_chromium
def test_the_page_draws_what_python_draws_and_works_offline(web, toy, browser, toolbox, tmp_path):
    context = browser.new_context(viewport={"width": DESKTOP[0], "height": DESKTOP[1]})
    with Host(web) as host:
        visit = Visit(context, f"{host.url}?backend=wasm")
        visit.settled()
        assert not visit.page.is_visible("#problem"), visit.text("#reason")
        visit.draw(PROMPT, SEED)
        picture = visit.picture(tmp_path / "first.png")
        reference = reference_picture(toy, PROMPT, SEED)
        assert psnr(picture, reference) >= FLOOR_DB
        said = json.loads(picture.text["parameters"])
        assert (said["seed"], said["steps"], said["size"]) == (SEED, 3, "64x64")
        assert PROMPT not in picture.text["parameters"]
        assert visit.page.get_attribute("#picture", "alt") == f"Picture of the prompt: {PROMPT}"
        visit.draw("grün 🍏", SEED)
        other = visit.picture(tmp_path / "other.png")
        assert psnr(other, reference_picture(toy, "grün 🍏", SEED)) >= FLOOR_DB
        assert psnr(other, picture) < FLOOR_DB, "another prompt, another picture"
        memory = renderer_memory() / 1e6
        print(f"web: {visit.text('#status')}, {memory:.0f} MB |", visit.text("#facts"))
        visit.page.fill("#steps", "500")
        visit.page.click("#draw")
        visit.page.click("#cancel")
        visit.page.wait_for_selector("#draw:enabled", timeout=120_000)
        assert visit.text("#status") == "Cancelled"
        visit.page.fill("#steps", "3")
        outside = [url for url in visit.requests if not url.startswith((host.url, "blob:"))]
        assert outside == []
        assert visit.complaints == []
    # The host is gone: this is stricter than a browser that calls itself offline.
    visit.page.reload()
    visit.settled()
    visit.draw(PROMPT, SEED)
    assert psnr(visit.picture(tmp_path / "offline.png"), picture) == float("inf")
    assert visit.complaints == []
    context.close()


@needs_chromium
def test_a_host_without_headers_is_isolated_by_the_service_worker(web, browser):
    context = browser.new_context()
    with Host(web, plain=True) as host:
        visit = Visit(context, f"{host.url}?backend=wasm")
        visit.settled()
        assert visit.page.is_enabled("#draw"), visit.text("#reason")
        assert len([url for url in visit.requests if url.startswith(f"{host.url}?")]) == 2
        handle = visit.page.evaluate_handle("self")
        assert handle.get_property("crossOriginIsolated").json_value() is True
    context.close()


@needs_chromium
def test_the_page_is_usable_by_all(web, browser, toolbox):
    """No accessibility rule of axe-core is broken, in light and dark; a phone does not scroll."""
    context = browser.new_context(viewport={"width": PHONE[0], "height": PHONE[1]}, bypass_csp=True)
    script = toolbox.web / "node_modules" / "axe-core" / "axe.min.js"
    with Host(web) as host:
        visit = Visit(context, f"{host.url}?backend=wasm")
        visit.settled()
        visit.draw("a long prompt " * 20, 2**32 - 1)
        page = visit.page
        page.add_script_tag(path=script)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            found: Any = page.evaluate("axe.run()")
            assert [one["id"] for one in found["violations"]] == []
        assert page.evaluate("document.scrollingElement.scrollWidth - innerWidth") <= 0
        assert "did not fit" in visit.text("#caption")
    context.close()


@needs_chromium
@pytest.mark.parametrize("harm", ["changed", "missing", "other list"])
def test_a_damaged_model_is_refused_by_the_page(web, browser, tmp_path, harm):
    broken = tmp_path / "bundle"
    shutil.copytree(web, broken)
    model = broken / "site" / "model"
    chunks = json.loads((broken / "site" / "app.json").read_text())["chunks"]
    chunk = model / "chunks" / chunks["unet/model.onnx"][0]
    if harm == "changed":
        content = bytearray(chunk.read_bytes())
        content[100] ^= 1
        chunk.write_bytes(content)
    elif harm == "missing":
        chunk.unlink()
    else:
        text = (model / "model.json").read_text()
        facts = json.loads(text)["files"]["vae_decoder/model.onnx"]
        (model / "model.json").write_text(text.replace(facts["sha256"], "0" * 64))
    context = browser.new_context()
    with Host(broken) as host:
        visit = Visit(context, f"{host.url}?backend=wasm")
        visit.settled()
        assert visit.page.is_disabled("#draw")
        assert "but got" in visit.text("#reason")
        assert visit.text("#reason").endswith("The owner of this page must upload it again.")
        assert visit.page.is_visible("#again")
    context.close()


def test_bundles_are_the_same_bytes_twice(toolbox, toy, web, node, tmp_path, monkeypatch):
    toolbox.lend(monkeypatch)
    for kind, first in (("web", web), ("node", node)):
        again = bundle(toy, kind, tmp_path / kind)
        assert list_files(again) == list_files(first)


def test_what_the_page_loads_is_small(web):
    """What one visit loads, the model apart; the other backend's runtime is not loaded."""
    compressed = 0
    for path in (web / "site").rglob("*"):
        if path.is_file() and "model" not in path.relative_to(web).parts:
            zipped = subprocess.run(["gzip", "-1c", path], capture_output=True, check=True)
            compressed += len(zipped.stdout)
    print(f"web: {compressed / 1e6:.1f} MB compressed, both backends, without the model")
    assert compressed < 15e6


# Node


@pytest.fixture(scope="module")
def node(toy, tmp_path_factory) -> Path:
    """Made as users do, with `npm ci`."""
    return bundle(toy, "node", tmp_path_factory.mktemp("node") / "bundle")


@pytest.fixture(scope="module")
def installed(node, tmp_path_factory) -> Path:
    """The second step of its README."""
    folder = tmp_path_factory.mktemp("installed") / "bundle"
    shutil.copytree(node, folder)
    command = ["npm", "ci", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=600)
    return folder


def test_node_draws_what_python_draws(installed, toy, tmp_path):
    out = tmp_path / "picture.png"
    asked = ["--seed", str(SEED), "--out", str(out), "--threads", "1", "--json"]
    result = cli(installed, PROMPT, *asked)
    assert result.returncode == 0, result.stderr
    print("node:", result.stdout.strip())
    helped = cli(installed, "--help")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert "--guidance" in helped.stdout
    assert json.loads(result.stdout)["file"] == str(out)
    picture = Image.open(out)
    assert psnr(picture, reference_picture(toy, PROMPT, SEED)) >= FLOOR_DB
    assert json.loads(picture.text["parameters"])["seed"] == SEED


def test_node_draws_with_two_text_encoders(installed, shallow_sdxl_teacher, export_to, tmp_path):
    """And guidance in two calls a step, and size conditioning."""
    exported = export_to(shallow_sdxl_teacher, "onnx", "fp32").path
    copy_model(read_contents(exported), tmp_path / "model")
    out = tmp_path / "picture.png"
    result = cli(
        installed, PROMPT, "--seed", "1", "--model", str(tmp_path / "model"), "--out", str(out)
    )
    assert result.returncode == 0, result.stderr
    assert psnr(Image.open(out), reference_picture(exported, PROMPT, 1)) >= FLOOR_DB


MISUSES = {
    "One prompt must be given": [],
    "The prompt must not be empty": [" "],
    "`--out` must end in .png": ["x", "--out", "a.jpg"],
    "`--steps` must be": ["x", "--steps", "0"],
    "`--seed` must be": ["x", "--seed", "1.5"],
    'whole number from 0 on, but got "-1"': ["x", "--seed", "-1"],
    "positive multiples of 16": ["x", "--width", "17"],
    "Unknown option": ["x", "--sampler", "euler"],
    "no model.json": ["x", "--model", "/nowhere"],
}


@pytest.mark.parametrize(("said", "arguments"), MISUSES.items())
def test_node_says_in_a_line_what_is_wrong(installed, said, arguments):
    result = cli(installed, *arguments)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert said in result.stderr


def test_node_refuses_a_damaged_model(installed, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(installed / "model", model)
    graph = model / "unet" / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])
    result = cli(installed, PROMPT, "--model", str(model), "--out", str(tmp_path / "no.png"))
    assert result.returncode == 2
    assert result.stderr.startswith("`unet/model.onnx` must have")
    assert not (tmp_path / "no.png").exists()


def test_the_module_is_cancelled_through_its_signal(installed, tmp_path):
    script = tmp_path / "cancel.mjs"
    module = (installed / "dist" / "index.mjs").as_uri()
    script.write_text(
        f"""import {{ open, Cancelled }} from {json.dumps(module)};
        const pipeline = await open({{ threads: 1 }});
        const stop = new AbortController();
        let calls = 0;
        const onStep = () => {{ calls += 1; stop.abort(); }};
        try {{
          await pipeline.generate({{ prompt: "x" }}, {{ onStep, signal: stop.signal }});
        }} catch (error) {{
          console.log(error instanceof Cancelled, calls);
        }}"""
    )
    result = subprocess.run(
        ["node", str(script)], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.stdout.split() == ["true", "1"], result.stderr


def test_node_without_its_runtime_is_told_how_to_get_it(node):
    result = cli(node, PROMPT)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert f"`npm ci --ignore-scripts` in {node}" in result.stderr


# The same student everywhere


@pytest.fixture(scope="module")
def student(tiny_lcm_student, export_to, tmp_path_factory) -> Path:
    """An export of what edgekd makes: few steps, guidance inside the U-Net, a small decoder. Its
    weights are random, but for a last layer that gives pictures the range of pictures."""
    import torch

    from edgekd.diffusion.load import load_pipeline

    pipeline = load_pipeline(tiny_lcm_student)
    last = [layer for layer in pipeline.vae.decoder.modules() if isinstance(layer, torch.nn.Conv2d)]
    with torch.no_grad():
        latents = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        levels = (pipeline.vae.decode(latents).sample + 1) / 2  # [4,3,h,w] in [0, 1]
        gain = 0.25 / levels.std((0, 2, 3))
        last[-1].bias.copy_((last[-1].bias - levels.mean((0, 2, 3))) * gain + 0.5)
        last[-1].weight *= gain[:, None, None, None]
    folder = tmp_path_factory.mktemp("student") / "lcm"
    pipeline.save_pretrained(folder)
    return export_to(folder, "onnx", "fp32").path


@needs_chromium
def test_one_student_draws_the_same_picture_in_every_app(
    installed, web, browser, student, tmp_path, request
):
    python = reference_picture(student, PROMPT, SEED)
    found = {
        "Python, another seed": reference_picture(student, PROMPT, SEED + 1),
        "node": drawn_by_node(installed, student, tmp_path),
        "web (WebAssembly in Chromium)": drawn_by_the_page(web, student, browser, tmp_path),
        "desktop": drawn_by_the_desktop_app(student, tmp_path),
    }
    if not MISSING:
        jvm = request.getfixturevalue("jvm")
        found["android's code (JVM, ort-fp32)"] = drawn_on_the_jvm(jvm, student, tmp_path)
    table = {name: psnr(picture, python) for name, picture in found.items()}
    rows = [
        f"  {name:<32}{'same pixels' if db == float('inf') else f'{db:.1f} dB'}"
        for name, db in table.items()
    ]
    title = "PSNR to Python's picture, of the same student, prompt and seed:"
    request.node.user_properties.append(("table", "\n".join([title, *rows])))
    assert table.pop("Python, another seed") < 20
    assert min(table.values()) >= FLOOR_DB
