"""Which Gemini model a client means by the name it asks for."""

from collections.abc import Mapping

DEFAULT_ALIASES: Mapping[str, str] = {
    "gpt-4": "gemini-2.5-pro",
    "gpt-4o": "gemini-2.5-pro",
    "gpt-4o-mini": "gemini-2.5-flash",
    "gpt-3.5-turbo": "gemini-2.5-flash",
    "gemini-pro": "gemini-2.5-pro",
    "gemini-flash": "gemini-2.5-flash",
}
_PREFIXES = ("models/", "google/", "gemini/")


def parse_aliases(raw: str) -> dict[str, str]:
    """Read ``alias=model`` pairs, comma-separated, on top of the defaults.

    Raises:
        ValueError: a pair without ``=``, or an empty name.
    """
    aliases = dict(DEFAULT_ALIASES)
    for pair in filter(None, map(str.strip, raw.split(","))):
        alias, separator, model = pair.partition("=")
        if not separator or not alias.strip() or not model.strip():
            raise ValueError(f"{pair!r} is not of the form alias=model")
        aliases[alias.strip()] = model.strip()
    return aliases


def resolve_model(requested: str, aliases: Mapping[str, str]) -> str:
    """Return the Gemini model id for a requested name; an unknown name stays as it is."""
    name = requested
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return aliases.get(name, name)
