"""nginx before the proxies: the files of deploy/nginx, laid out for this machine."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "nginx"
_SERVER = re.compile(r" *server 127\.0\.0\.1:\d+.*\n")
_OPENSSL_SECONDS = 30


def nginx_program() -> str | None:
    """Return nginx's path, which is not on everybody's; None where there is none."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def lay_out(folder: Path, port: int, proxies: Sequence[str], **changed: str) -> Path:
    """Lay the configuration out as in /etc/nginx, and return nginx's own file.

    Only what belongs to the machine is different: port, folders, the proxies' addresses and a
    certificate, which is made once.

    Args:
        folder: where all of it goes, logs too.
        port: to listen on, on the loopback interface.
        proxies: their base URLs.
        changed: directives of gateway.conf with another value.

    Raises:
        ValueError: there is no such directive, or several.
        OSError: no openssl, or the folder can't be written to.
        subprocess.CalledProcessError: openssl made no certificate.
    """
    ours = folder / "prepaid-ai-gateway"
    ignored = shutil.ignore_patterns("certificates")
    shutil.copytree(SOURCE, ours, ignore=ignored, dirs_exist_ok=True)
    main = folder / "nginx.conf"
    main.write_text((SOURCE / "nginx.conf").read_text().replace("/tmp/", f"{folder}/"))  # noqa: S108 - the container's
    site = (SOURCE / "gateway.conf").read_text()
    site = site.replace("listen 443 ", f"listen 127.0.0.1:{port} ")
    site = site.replace("/var/log/nginx/", f"{folder}/")
    for directive, value in changed.items():
        site, count = re.subn(rf"(?m)^(\s*{directive}) [^;]+;", rf"\1 {value};", site)
        if count != 1:
            raise ValueError(f"{directive} stands {count} times in gateway.conf")
    (ours / "gateway.conf").write_text(site)
    (ours / "upstream.conf").write_text(_upstream(proxies))
    if not (ours / "certificates" / "privkey.pem").exists():
        subprocess.run(  # noqa: S603 - the project's own script
            ["sh", str(ours / "self_signed.sh")],  # noqa: S607 - the one on the path
            check=True,
            capture_output=True,
            timeout=_OPENSSL_SECONDS,
        )
    return main


def _upstream(proxies: Sequence[str]) -> str:
    text = (SOURCE / "upstream.conf").read_text()
    first, *others = _SERVER.findall(text)
    servers = "".join(
        re.sub(r"127\.0\.0\.1:\d+", proxy.removeprefix("http://"), first) for proxy in proxies
    )
    return text.replace("".join([first, *others]), servers)


def certificate_of(main: Path) -> Path:
    """Return what clients have to trust, of a configuration of `lay_out`."""
    return main.parent / "prepaid-ai-gateway" / "certificates" / "fullchain.pem"


def nginx_command(program: str, main: Path, *directives: str) -> list[str]:
    """Return how nginx is called with a configuration of `lay_out`.

    Args:
        program: nginx.
        main: its own file.
        directives: further ones.
    """
    folder = main.parent
    # The folder may be one that nobody else can enter.
    user = ["user root;"] if os.geteuid() == 0 else []
    further = " ".join([*user, *directives])
    options = ["-g", further] if further else []
    return [program, "-p", str(folder), "-c", str(main), "-e", str(folder / "error.log"), *options]
