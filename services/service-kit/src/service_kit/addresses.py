"""Checks of the addresses in settings, before a library quotes a piece of a password from one.

A password with a character that ends it too early (``/``, ``?``, ``#``, ``@``) leaves its rest
where a host or a port belongs, and libraries name a port that is not a number.
"""

import re
from urllib.parse import urlsplit

_SERVER = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^:\[\]@]*)(:\d{1,5})?")


def check_store_uri(uri: str) -> None:
    """Refuse an address whose user, password and servers can't be told apart.

    Args:
        uri: of a Redis or a PostgreSQL, which may name several servers; not empty.

    Raises:
        ValueError: it can't be read; the message shows nothing of it.
    """
    try:
        servers = urlsplit(uri).netloc.rpartition("@")[2].split(",")
    except ValueError:  # an address in brackets that is none
        servers = ["]"]
    if not all(map(_SERVER.fullmatch, servers)):
        raise ValueError(
            "its server can't be read: write special characters of a password as %XX, "
            "for example / as %2F"
        )


def check_base_url(url: str) -> None:
    """Refuse the base URL of an HTTP service that has more in it than an address.

    Args:
        url: what the operator set; not empty.

    Raises:
        ValueError: it is not such a URL; the message shows nothing of it.
    """
    if not url.startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    check_store_uri(url)
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query or parts.fragment or not parts.netloc:
        raise ValueError(
            "is an address only, such as https://host:8001: no user name, password or query; "
            "keys have settings of their own"
        )
