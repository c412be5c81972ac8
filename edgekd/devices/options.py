"""What the two command lines of an agent take; nothing heavy is imported before it starts."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from edgekd.errors import InputError


class AgentOptions(NamedTuple):
    """As they are written; None: as `edgekd.devices.settings` has it.

    Attributes:
        host: that the agent binds.
        device_class: devices of one class share work.
        folder: of its files, certificate and token.
        certificate, key: PEM files.
        threads: that a model may run on.
        memory_limit, max_file, quota: such as `2G`: of a measuring process, of one file, of all.
        queue: jobs that may wait.
        job_time: seconds of a job.
        lease: seconds until a job is cancelled that nobody asks for.
    """

    host: str = "127.0.0.1"
    port: int = 8421
    token: str | None = None
    name: str | None = None
    device_class: str | None = None
    folder: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    no_tls: bool = False
    threads: int | None = None
    memory_limit: str | None = None
    max_file: str = "1G"
    quota: str = "10G"
    queue: int = 8
    job_time: float = 3600.0
    lease: float = 120.0

    def start(self) -> None:
        """Be an agent until the process is told to end.

        Raises:
            InputError: an option that cannot be, or as `edgekd.devices.run.run`.
        """
        try:
            import fastapi  # noqa: F401
            import psutil  # noqa: F401
            import safetensors  # noqa: F401
            import uvicorn  # noqa: F401

            from edgekd.devices.run import run
            from edgekd.devices.settings import AgentSettings, Tls, default_folder, make_limits
            from edgekd.serve.settings import parse_bytes, token_from
        except ImportError as error:
            raise InputError(
                "the packages of an agent must be installed",
                f"no {error.name}",
                "Run `pip install 'edgekd-runtime[agent,onnx]'`, or `'edgekd[agent]'` on a host.",
            ) from None
        memory = self.memory_limit
        limits = make_limits(
            file_bytes=parse_bytes(self.max_file),
            store_bytes=parse_bytes(self.quota),
            job_s=self.job_time,
            lease_s=self.lease,
            memory_bytes=None if memory is None else parse_bytes(memory),
            queue=self.queue,
            threads=self.threads,
        )
        settings = AgentSettings(
            folder=(self.folder or default_folder()).absolute(),
            limits=limits,
            host=self.host,
            port=self.port,
            token=token_from(self.token),
            name=self.name,
            device_class=self.device_class,
            tls=Tls(self.no_tls, self.certificate, self.key),
        )
        run(settings)
