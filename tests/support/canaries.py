"""Secrets and private texts that tests plant, and the search for them in all that is shown.

Every process that a test starts knows the secrets of its settings, and is searched at its end
(`processes.py`): its output, its metrics, its argument list. What is found is told by the name
of the secret, never by the secret.

Identifiers may be shown: those of requests, accounts, holds, charges and idempotency keys, the
names of models and keys, the public prefix of an issued key. Keys, passwords, prompts, answers,
tool arguments, files and the query strings of their addresses may not.
"""

import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote, urlsplit

# Stands in what a test says to a model, or lets it say, and in nothing that may be shown.
PROMPT = "zq7-canary-prompt-wombat"
ANSWER = "zq7-canary-answer-wombat"
ARGUMENT = "zq7-canary-argument-wombat"
TOKEN = "zq7-canary-token-wombat"
# Of prompts and answers that carry none of these: the simulator's orders and its own phrases.
_PRIVATE_TEXTS = {
    "a canary": "zq7-canary",
    "a prompt": "[[sim ",
    "an answer": "This answer goes on about",
    "the beginning of an answer": "You said: ",
    "a thought": "**Planning the answer**",
}
_KEY_SETTINGS = (
    "API_KEYS",
    "ADMIN_API_KEYS",
    "GEMINI_API_KEY",
    "CREDITS_SERVICE_API_KEY",
    "CREDITS_API_KEY",
    "WEBHOOK_SECRET",
)
_URL_SETTINGS = (
    "DATABASE_URL",
    "TARGET_DATABASE_URL",
    "USAGE_LOG_URL",
    "CALL_MEMORY_URI",
    "ANSWER_STORE_URI",
    "RATE_LIMIT_STORAGE_URI",
    "WEBHOOK_URL",
)
# Shorter ones would be found in words that have nothing to do with them.
_LENGTH_MIN = 8
_PUBLIC_BEGINNING = re.compile(r"sk-|AIza|whsec_")
_PASSWORD = re.compile(r"://[^/?#@]*?:(?P<password>[^@]+)@")
_ISSUED_KEY = re.compile(r"sk-[0-9A-Za-z]{8}-[0-9A-Za-z]{40}")
# What the log's mask leaves of a secret: it stood there, whatever the mask made of it.
_MASKED = re.compile(r"(?i)(bearer\s+|sk-|AIza|AQ\.|whsec_|://[^/\s]*:)…")
_SHOWN_AROUND = 60

_planted: dict[str, str] = {}


class LeakError(AssertionError):
    """Something that must stay hidden was shown."""


def plant(secret: str, name: str) -> str:
    """Look for a secret from now on, and return it.

    Args:
        secret: the whole of it; what follows its public beginning is looked for by itself, as
            a log's mask hides what begins that way.
        name: what is told of it when it is found.
    """
    inner = _PUBLIC_BEGINNING.sub("", secret, count=1)
    for text in (secret, inner):
        if len(text) >= _LENGTH_MIN:
            _planted.setdefault(text, name)
    return secret


def plant_settings(environment: Mapping[str, str]) -> None:
    """Look for every secret of a process's settings from now on."""
    for setting in _KEY_SETTINGS:
        for number, item in enumerate(environment.get(setting, "").split(","), start=1):
            plant(item.partition(":")[2] or item, f"{setting}, number {number}")
    for setting in _URL_SETTINGS:
        url = environment.get(setting, "")
        found = _PASSWORD.search(url)
        if found is not None:
            plant(found["password"], f"the password in {setting}")
            plant(unquote(found["password"]), f"the password in {setting}")
        if setting == "WEBHOOK_URL":
            plant(urlsplit(url).query, f"the query of {setting}")


def leaks(
    text: str, where: str, *, private_texts: bool = True, masked_ones: bool = True
) -> list[str]:
    """Say what is in a text that must not be, each by its name and its place.

    Args:
        text: all that was shown.
        where: what the text is.
        private_texts: whether prompts and answers are looked for as well as secrets.
        masked_ones: whether a secret that the log's mask has cut short counts, too.
    """
    wanted = [(secret, name) for secret, name in _planted.items() if secret in text]
    if private_texts:
        wanted += [(mark, name) for name, mark in _PRIVATE_TEXTS.items() if mark in text]
    patterns = [(_ISSUED_KEY, "an issued key")]
    if masked_ones:
        patterns.append((_MASKED, "a secret that the log's mask cut short"))
    wanted += [
        (found[0], name)
        for pattern, name in patterns
        if (found := pattern.search(text)) is not None
    ]
    return [f"{name} leaked in {where}: {_around(text, secret)}" for secret, name in wanted]


def assert_nothing_leaked(
    shown: Iterable[tuple[str, str]], *, private_texts: bool = True, masked_ones: bool = True
) -> None:
    """Search texts, each given as where it was shown and what was shown; see `leaks`.

    Raises:
        LeakError: something must not be there; each finding has a line.
    """
    found = [
        line
        for where, text in shown
        for line in leaks(text, where, private_texts=private_texts, masked_ones=masked_ones)
    ]
    if found:
        raise LeakError("\n".join(found))


def _around(text: str, secret: str) -> str:
    """Show where a secret stands, with every secret in the neighbourhood masked."""
    at = text.index(secret)
    line_start = text.rfind("\n", 0, at) + 1
    before = text[max(line_start, at - _SHOWN_AROUND) : at]
    after = text[at + len(secret) : at + len(secret) + _SHOWN_AROUND].partition("\n")[0]
    shown = f"{before}<HERE>{after}"
    for other in sorted(_planted, key=len, reverse=True):
        shown = shown.replace(other, "<masked>")
    return shown
