"""What fields of bodies are: amounts, moments, names.

Amounts come in as decimal strings or JSON numbers, read exactly, and go out as strings.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from credits_service.core.money import DECIMAL

# No control characters, anywhere; `[\s\S]` because a dot stops at line ends.
_NO_CONTROLS = r"^(?![\s\S]*[\x00-\x1f\x7f-\x9f])"
# PostgreSQL's text can't hold NUL.
_NO_NUL = r"^(?![\s\S]*\x00)"


def _amount(*types: str) -> Meta:
    return Meta(
        description="USD, greater than 0, at most 9 fraction digits, as a string or a number.",
        examples=["0.000625"],
        extra_json_schema={"type": list(types), "format": "decimal", "pattern": f"^{DECIMAL}$"},
    )


# As it was written: neither a float nor a lenient reader of decimals comes in between.
Amount = Annotated[msgspec.Raw, _amount("string", "number")]
# Raw JSON goes into no union with None: null is given as what it is.
OptionalAmount = Annotated[msgspec.Raw, _amount("string", "number", "null")] | msgspec.UnsetType
Usd = Annotated[str, Meta(description="USD, a decimal with up to 9 fraction digits.")]
Moment = Annotated[
    str, Meta(description="RFC 3339, UTC.", extra_json_schema={"format": "date-time"})
]
UserId = Annotated[str, Meta(min_length=1, max_length=128, pattern=_NO_CONTROLS)]
Identifier = Annotated[str, Meta(min_length=1, max_length=128, pattern=_NO_CONTROLS)]
Reference = Annotated[str, Meta(min_length=1, max_length=255, pattern=_NO_CONTROLS)]
Description = Annotated[str, Meta(max_length=1000, pattern=_NO_NUL)]
Reason = Annotated[str, Meta(min_length=1, max_length=1000, pattern=_NO_NUL)]
Seconds = Annotated[int, Meta(ge=1)]
# As it was stored, byte for byte.
Document = Annotated[msgspec.Raw, Meta(extra_json_schema={"type": ["object", "null"]})]
