"""nginx with the project's own configuration, in front of a test's proxies."""

import ssl
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import front
from front import certificate_of, lay_out

from support.components import skip_or_fail
from support.postgres_cluster import free_port

_TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class Nginx:
    """A running nginx.

    Attributes:
        url: where it listens, on TLS.
        port: the same.
        certificate: what clients trust.
        log: its access log.
    """

    url: str
    port: int
    certificate: Path
    log: Path

    def trust(self) -> ssl.SSLContext:
        """Return the TLS settings of a client that trusts this certificate alone."""
        return ssl.create_default_context(cafile=str(self.certificate))


def nginx_program() -> str:
    """Return nginx's path; skip where there is none."""
    program = front.nginx_program()
    if program is None:
        skip_or_fail("nginx (Debian's package nginx-light) is not installed")
    return program


def nginx_command(main: Path) -> list[str]:
    """Return how nginx is called with a configuration of `lay_out`."""
    return front.nginx_command(nginx_program(), main)


@contextmanager
def running_nginx(folder: Path, proxies: Sequence[str], **changed: str) -> Iterator[Nginx]:
    """Run nginx in front of some proxies, named by their URLs; stop it afterwards."""
    folder.mkdir(exist_ok=True)
    port = free_port()
    main = lay_out(folder, port, proxies, **changed)
    command = nginx_command(main)
    # It goes into the background once it listens.
    subprocess.run(command, check=True, timeout=_TIMEOUT_SECONDS)
    try:
        log = folder / "access.log"
        yield Nginx(f"https://localhost:{port}", port, certificate_of(main), log)
    finally:
        subprocess.run([*command, "-s", "stop"], check=True, timeout=_TIMEOUT_SECONDS)
