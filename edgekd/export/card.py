"""The card of an exported folder."""

from __future__ import annotations

from pathlib import Path

from edgekd import __version__
from edgekd.export.protocol import Exporter, Generation, SaysHowToLoad
from edgekd.model_card import Card, licence_fields, model_name, read_header
from edgekd.progress import counted

_RUNTIME = """from edgekd.runtime import Pipeline

pictures = Pipeline.open("FOLDER").generate([prompt], seed=1)  # uint8 [N,H,W,3]"""


def export_card(source: Path, exporter: Exporter, precision: str, generation: Generation) -> Card:
    """What is known of an export when it is made; licence and origin are those of its source."""
    header = read_header(source)
    said, made = header.get("base_model"), header.get("edgekd")
    name = model_name(source)
    licence = licence_fields(source)
    licence.pop("license_link", None)  # a file of the source, which is not here
    drawn = {"steps": generation.steps, "scale": f"{generation.guidance_scale:g}"}
    snippets = [exporter.loading.format(**drawn)] if isinstance(exporter, SaysHowToLoad) else []
    return Card(
        name=f"{name}-{exporter.name}-{precision}",
        base_model=said if isinstance(said, str) else name,
        text="\n\n".join(
            [
                f"`{name}` for {exporter.name} in {precision}, exported by edgekd {__version__}. "
                "`manifest.json` has the parity of each part to the original.",
                f"## How to use it\n\nRecommended: {counted(generation.steps, 'step')}, guidance "
                f"scale {generation.guidance_scale:g}. Without torch:",
                *(f"```python\n{code}\n```" for code in [_RUNTIME, *snippets]),
            ]
        ),
        licence=licence,
        datasets=_texts(header.get("datasets")),
        tags=(exporter.name, "stable-diffusion"),
        parameters={
            "num_inference_steps": generation.steps,
            "guidance_scale": generation.guidance_scale,
        },
        made={
            key: str(made[key])
            for key in ("recipe", "teacher")
            if isinstance(made, dict) and key in made
        },
    )


def _texts(value: object) -> list[str]:
    """A list of names in somebody's header; empty where it is none."""
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
