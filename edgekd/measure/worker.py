"""The fresh process of `edgekd.measure.memory`; run as `python -m edgekd.measure.worker`.

The entry's module is imported before the baseline is read, and its
`preload(payload)`, where it has one, imports the libraries that the work
needs: neither counts as the work's own memory.
"""

from __future__ import annotations

import importlib
import json
import sys

from edgekd.measure.memory import RESULT_PREFIX, peak_resident_bytes, resident_bytes


def main(arguments: list[str]) -> None:
    """Run `package.module:function` with a JSON payload; print figures and result on one line."""
    entry, payload_text = arguments
    module_name, _, function_name = entry.partition(":")
    module = importlib.import_module(module_name)
    payload = json.loads(payload_text)
    preload = getattr(module, "preload", None)
    if preload is not None:
        preload(payload)
    baseline_bytes = resident_bytes()
    result = getattr(module, function_name)(payload)
    figures = {"baseline_bytes": baseline_bytes, "peak_bytes": peak_resident_bytes()}
    print(RESULT_PREFIX + json.dumps({**figures, "result": result}, default=str), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
