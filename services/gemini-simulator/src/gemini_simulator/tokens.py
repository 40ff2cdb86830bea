"""The simulator's own tokenizer: simple, deterministic, the same for every count.

A token is up to six letters with the blank before them, a run of up to four blanks, or any
other single character. So a text never has more tokens than UTF-8 bytes (true of Gemini's
tokenizer as well), and the first n tokens of a text, joined, have exactly n tokens.
"""

import re

_TOKEN = re.compile(r" ?[A-Za-z]{1,6}|[ \t]{1,4}|.", re.DOTALL)


def split_tokens(text: str) -> list[str]:
    """Return the tokens of a text; joined they give it back."""
    return _TOKEN.findall(text)


def count_tokens(text: str) -> int:
    """Return how many tokens a text has."""
    return len(_TOKEN.findall(text))
