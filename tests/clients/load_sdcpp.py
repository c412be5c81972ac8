"""Loads checkpoints in stable-diffusion.cpp: `load_sdcpp.py FOLDER`.

Each `FOLDER/*.safetensors`, with `FOLDER/taesd/NAME` where there is such a file, becomes a line of
`FOLDER/said.jsonl`: its name, whether it loads, and what is said about it. A process of its own,
because that library ends the process where its own checks fail.
"""

import json
import sys
from pathlib import Path

from cyllama import sd

said: list[tuple[int, str]] = []
sd.set_log_callback(lambda level, text: said.append((int(level), text.strip())))
folder = Path(sys.argv[1])
with open(folder / "said.jsonl", "w", encoding="utf-8") as report:
    for file in sorted(folder.glob("*.safetensors")):
        said.clear()
        params = sd.SDContextParams(model_path=str(file), n_threads=1, wtype=sd.SDType.F16)
        params.enable_mmap = True  # weights that need no conversion are not read
        params.prediction = sd.Prediction.EPS  # else a U-Net of Stable Diffusion 2 is run
        taesd = folder / "taesd" / file.name
        if taesd.is_file():
            params.taesd_path = str(taesd)
        try:
            loaded = bool(sd.SDContext(params))
        except RuntimeError:
            loaded = False
        print(json.dumps([file.stem, loaded, said]), file=report, flush=True)
