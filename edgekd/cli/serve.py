"""`edgekd serve`."""

from __future__ import annotations

from typing import Annotated

import typer

from edgekd.serve.limits import TOKEN_VARIABLE, Limits


def serve(
    exports: Annotated[
        list[str],
        typer.Argument(
            metavar="EXPORT…", help="Exported folders, or NAME=folder; the first is the default."
        ),
    ],
    host: Annotated[
        str, typer.Option("--host", help="Another than the loopback device needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="0: a free one.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option("--token", help=f"That requests must bear; better: {TOKEN_VARIABLE}."),
    ] = None,
    workers: Annotated[int, typer.Option("--workers", help="Processes that draw.")] = 1,
    threads: Annotated[
        int,
        typer.Option(
            "--threads",
            help="Of a worker. 0: as the export says; of several, a share each.",
        ),
    ] = 0,
    queue: Annotated[int, typer.Option("--queue", help="Pictures that may wait.")] = Limits.queue,
    timeout: Annotated[
        float, typer.Option("--timeout", help="Seconds of a request.")
    ] = Limits.timeout_s,
    grace: Annotated[
        float, typer.Option("--grace", help="Seconds for running pictures after SIGTERM.")
    ] = Limits.grace_s,
    memory_limit: Annotated[
        str | None,
        typer.Option(
            "--memory-limit", help="Of a worker, such as 2G: least recently used models leave."
        ),
    ] = None,
    max_pixels: Annotated[int, typer.Option("--max-pixels", help="Of a picture.")] = Limits.pixels,
    embed_prompt: Annotated[
        bool, typer.Option("--embed-prompt", help="Write prompts into PNG files.")
    ] = False,
    log_prompts: Annotated[
        bool, typer.Option("--log-prompts", help="Write prompts into the log.")
    ] = False,
) -> None:
    """Serve exported folders over HTTP, as OpenAI's Images API."""
    from edgekd.serve.run import run
    from edgekd.serve.settings import (
        Privacy,
        ServeSettings,
        parse_bytes,
        parse_models,
        token_from,
    )

    memory = None if memory_limit is None else parse_bytes(memory_limit)
    run(
        ServeSettings(
            models=parse_models(exports),
            host=host,
            port=port,
            token=token_from(token),
            workers=workers,
            threads=threads,
            limits=Limits(queue, timeout, grace, memory, max_pixels),
            privacy=Privacy(embed_prompt, log_prompts),
        )
    )
