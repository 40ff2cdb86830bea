"""nginx with the project's own configuration, in front of a test's proxies."""

import os
import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.components import skip_or_fail
from support.postgres_cluster import free_port

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "deploy" / "nginx"
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
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        skip_or_fail("nginx (Debian's package nginx-light) is not installed")
    return program


def prepared(folder: Path, port: int, proxies: Sequence[str], **changed: str) -> Path:
    """Lay the configuration out as in /etc/nginx, and return nginx's own file.

    Only what belongs to the machine is different: port, folders and the proxies' addresses; and
    `changed`, directives with another value.
    """
    ours = folder / "prepaid-ai-gateway"
    shutil.copytree(SOURCE, ours, ignore=shutil.ignore_patterns("certificates"))
    main = folder / "nginx.conf"
    main.write_text((SOURCE / "nginx.conf").read_text().replace("/tmp/", f"{folder}/"))  # noqa: S108 - the container's
    site = (SOURCE / "gateway.conf").read_text()
    site = site.replace("listen 443 ", f"listen 127.0.0.1:{port} ")
    site = site.replace("/var/log/nginx/", f"{folder}/")
    for directive, value in changed.items():
        site, count = re.subn(rf"(?m)^(\s*{directive}) [^;]+;", rf"\1 {value};", site)
        assert count == 1, directive
    (ours / "gateway.conf").write_text(site)
    first, *others = re.findall(
        r" *server 127\.0\.0\.1:\d+.*\n", (SOURCE / "upstream.conf").read_text()
    )
    servers = "".join(
        re.sub(r"127\.0\.0\.1:\d+", proxy.removeprefix("http://"), first) for proxy in proxies
    )
    upstream = (SOURCE / "upstream.conf").read_text().replace("".join([first, *others]), servers)
    (ours / "upstream.conf").write_text(upstream)
    subprocess.run(
        ["sh", str(ours / "self_signed.sh")],  # noqa: S607 - the one on the path
        check=True,
        capture_output=True,
        timeout=_TIMEOUT_SECONDS,
    )
    return main


def nginx_command(main: Path) -> list[str]:
    """Return how nginx is called with a configuration of `prepared`."""
    # A test's folder can be entered by nobody else.
    user = ["-g", "user root;"] if os.geteuid() == 0 else []
    folder = main.parent
    return [
        nginx_program(),
        "-p",
        str(folder),
        "-c",
        str(main),
        "-e",
        str(folder / "error.log"),
        *user,
    ]


@contextmanager
def running_nginx(folder: Path, proxies: Sequence[str], **changed: str) -> Iterator[Nginx]:
    """Run nginx in front of some proxies, named by their URLs; stop it afterwards."""
    folder.mkdir(exist_ok=True)
    port = free_port()
    command = nginx_command(prepared(folder, port, proxies, **changed))
    # It goes into the background once it listens.
    subprocess.run(command, check=True, timeout=_TIMEOUT_SECONDS)
    try:
        certificate = folder / "prepaid-ai-gateway" / "certificates" / "fullchain.pem"
        yield Nginx(f"https://localhost:{port}", port, certificate, folder / "access.log")
    finally:
        subprocess.run([*command, "-s", "stop"], check=True, timeout=_TIMEOUT_SECONDS)
