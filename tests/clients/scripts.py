"""Scripts that try one client each, in a process of the client's own kind."""

import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from support.stack import CLIENT_KEY, Stack

SCRIPT_SECONDS_MAX = 150
_CHECK = re.compile(r"""^@?check\((["'])(.+?)\1[,)]""", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a check; `detail` says why it failed."""

    ok: bool
    detail: str


# What tells a client which certificates it may trust: OpenSSL's programs, Node, curl.
TRUSTED_BY = ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE")


def check_names(script: Path) -> list[str]:
    """Return the names of the checks in a script, in their order."""
    return [found[2] for found in _CHECK.finditer(script.read_text(encoding="utf-8"))]


def run_script(
    program: str | Path, script: Path, stack: Stack, settings: Mapping[str, str]
) -> dict[str, Outcome]:
    """Run all checks of a script against the running system.

    Args:
        program: what runs it.
        script: the script.
        stack: the system.
        settings: more environment variables.
    """
    names = ("PATH", "HOME", *TRUSTED_BY)
    inherited = {name: os.environ[name] for name in names if name in os.environ}
    addresses = {
        "OPENAI_BASE_URL": f"{stack.proxy.url}/v1",
        "OPENAI_API_KEY": CLIENT_KEY,
        "SIMULATOR_URL": stack.simulator.url,
    }
    done = subprocess.run(
        [str(program), str(script)],
        env={**inherited, **addresses, **settings},
        capture_output=True,
        text=True,
        timeout=SCRIPT_SECONDS_MAX,
        check=False,
    )
    silent = Outcome(ok=False, detail=f"no report; exit code {done.returncode}:\n{done.stderr}")
    outcomes = dict.fromkeys(check_names(script), silent)
    for line in done.stdout.splitlines():
        if line.startswith('{"name":'):
            report = json.loads(line)
            outcomes[report["name"]] = Outcome(report["ok"], report["detail"])
    return outcomes
