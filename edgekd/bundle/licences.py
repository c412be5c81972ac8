"""Which licences and attributions a bundle carries, and what it says of them.

Licences of an app's own libraries are the kind's to add, in the same folder `licences/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekd.bundle.kind import Licence
from edgekd.errors import InputError
from edgekd.model_card import read_header
from edgekd.reading import read_text
from edgekd.resources import STARTER, STARTER_DATA, STARTER_TEACHER, data_root

FOLDER = "licences"
MODEL_LICENCE = "MODEL-LICENSE.txt"
ATTRIBUTION = "STARTER-DATA.md"


def find_licence(exported: Path, file: Path | None) -> Licence:
    """What an exported folder's card says, and the file that the user gives.

    Raises:
        InputError: the file is no readable text, or an empty one.
    """
    header = read_header(exported)
    files = {name: (data_root() / name).read_bytes() for name in ("LICENSE", "NOTICE")}
    starter = _is_of_the_starter(header)
    if starter:
        files[ATTRIBUTION] = (STARTER / "DATA_CARD.md").read_bytes()
    if file is not None:
        files[MODEL_LICENCE] = read_licence(file).encode()
    # The hub calls a licence `other` that has no name of its own there.
    said = [header.get(key) for key in ("license_name", "license")]
    name = next((one for one in said if isinstance(one, str)), None)
    given = file is not None
    return Licence(name, _sentence(name, starter, given), files, has_text=starter or given)


def read_licence(file: Path) -> str:
    """The text that `--license` names.

    Raises:
        InputError: the file is not there, no readable text, or an empty one.
    """
    if not file.exists():
        raise InputError("`--license` must name a file that exists", str(file))
    text = read_text(file)
    if not text.strip():
        raise InputError("`--license` must name a file with a text", f"{file} (empty)")
    return text


def _is_of_the_starter(header: Mapping[str, Any]) -> bool:
    """Whether a model learned from the starter's pictures, or from its teacher."""
    learned_from = header.get("datasets")
    datasets = learned_from if isinstance(learned_from, list) else []
    names = (header.get("base_model"), header.get("model_name"))
    return STARTER_DATA in datasets or STARTER_TEACHER in names


def _sentence(name: str | None, starter: bool, given: bool) -> str:
    said = [] if name is None else [f"The model's card names the licence `{name}`."]
    if starter:
        said.append(
            "The model learned from the starter's pictures, parts of which are CC-BY-4.0: pass on "
            f"`{FOLDER}/{ATTRIBUTION}`, which names their authors, with it."
        )
    if given:
        said.append(f"Its licence is `{FOLDER}/{MODEL_LICENCE}`.")
    if not said:
        said.append(
            "Nobody said under which licence the model is: find out before you pass it on, and "
            "put the text into the bundle with `edgekd bundle --license FILE`."
        )
    elif not starter and not given:
        said.append("Its text is not here: `edgekd bundle --license FILE` puts it in.")
    return " ".join(said)
