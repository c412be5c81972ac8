"""`python -m edgekd.serve EXPORT…`: a server without the rest of edgekd."""

from __future__ import annotations

import argparse
import sys

from edgekd.errors import EdgekdError
from edgekd.serve.limits import TOKEN_VARIABLE, Limits
from edgekd.serve.run import run
from edgekd.serve.settings import Privacy, ServeSettings, parse_bytes, parse_models, token_from


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m edgekd.serve",
        description="Serve exported folders as OpenAI's Images API; needs no torch.",
    )
    limits = Limits()
    parser.add_argument(
        "exports", nargs="+", metavar="EXPORT", help="folder, or NAME=folder; the first is default"
    )
    parser.add_argument("--host", default="127.0.0.1", help="another one needs a token")
    parser.add_argument("--port", type=int, default=8000, help="0: a free one")
    parser.add_argument("--token", help=f"that requests must bear; better: {TOKEN_VARIABLE}")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw")
    parser.add_argument("--threads", type=int, default=0, help="of a worker; 0: automatic")
    parser.add_argument("--queue", type=int, default=limits.queue, help="pictures that may wait")
    parser.add_argument("--timeout", type=float, default=limits.timeout_s, help="s of a request")
    parser.add_argument("--grace", type=float, default=limits.grace_s, help="s after SIGTERM")
    parser.add_argument("--memory-limit", help="of a worker, such as 2G: old models leave above it")
    parser.add_argument("--max-pixels", type=int, default=limits.pixels, help="of a picture")
    parser.add_argument("--embed-prompt", action="store_true", help="into PNG files")
    parser.add_argument("--log-prompts", action="store_true", help="into the log")
    return parser


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    memory = options.memory_limit
    try:
        limits = Limits(
            queue=options.queue,
            timeout_s=options.timeout,
            grace_s=options.grace,
            memory_bytes=None if memory is None else parse_bytes(memory),
            pixels=options.max_pixels,
        )
        settings = ServeSettings(
            models=parse_models(options.exports),
            host=options.host,
            port=options.port,
            token=token_from(options.token),
            workers=options.workers,
            threads=options.threads,
            limits=limits,
            privacy=Privacy(options.embed_prompt, options.log_prompts),
        )
        run(settings)
    except EdgekdError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:  # while it starts; later the server itself hears the signal
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
