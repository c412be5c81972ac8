"""How many pictures `edgekd.runtime` draws in a loop, beside which a server is held.

python tools/serve/bare_loop.py EXPORT --processes 2 --threads 1 --seconds 30
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

_PROMPT = "red apple"


def draw(folder: str, threads: int, seconds: float, steps: int | None) -> tuple[int, float, float]:
    """Pictures, seconds and processor seconds of one process, after one picture to warm up."""
    from edgekd.runtime import Pipeline

    pipeline = Pipeline.open(folder, threads)
    pipeline.generate([_PROMPT], steps=steps)
    started, busy, count = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - started < seconds:
        pipeline.generate([_PROMPT], steps=steps, seed=count)
        count += 1
    return count, time.perf_counter() - started, time.process_time() - busy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--steps", type=int)
    options = parser.parse_args()
    if options.processes == 1:
        print(json.dumps(draw(options.folder, options.threads, options.seconds, options.steps)))
        return
    command = [sys.executable, __file__, options.folder, "--threads", str(options.threads)]
    command += ["--seconds", str(options.seconds)]
    command += [] if options.steps is None else ["--steps", str(options.steps)]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(options.processes)]
    rows = [json.loads(child.communicate()[0]) for child in children]
    pictures = sum(count for count, _, _ in rows)
    result = {
        "pictures": pictures,
        "pictures_per_s": round(sum(count / wall for count, wall, _ in rows), 3),
        "processor_s_per_picture": round(sum(busy for _, _, busy in rows) / pictures, 4),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
