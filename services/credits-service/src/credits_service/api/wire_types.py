"""What fields of bodies are: amounts, moments, names.

Amounts come in as decimal strings or JSON numbers, read exactly, and go out as strings.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from credits_service.core.money import DECIMAL, MAX_NANOS, NANOS_PER_USD, usd_from_nanos

# No control characters, anywhere; `[\s\S]` because a dot stops at line ends.
_NO_CONTROLS = r"^(?![\s\S]*[\x00-\x1f\x7f-\x9f])"
# PostgreSQL's text can't hold NUL.
_NO_NUL = r"^(?![\s\S]*\x00)"


_UNSIGNED = DECIMAL.removeprefix("-?")
_MAX_USD = usd_from_nanos(MAX_NANOS)


def _amount(what: str, *types: str, **schema: object) -> Meta:
    return Meta(
        description=f"USD, {what}, at most {_MAX_USD} and 9 fraction digits, as a string or "
        "a number.",
        examples=["0.000625"],
        extra_json_schema={
            "type": [*types],
            "format": "decimal",
            # The float next to the largest amount is larger.
            "maximum": MAX_NANOS // NANOS_PER_USD + 1,
            **schema,
        },
    )


_POSITIVE = {"pattern": f"^{_UNSIGNED}$", "exclusiveMinimum": 0}
# As it was written: neither a float nor a lenient reader of decimals comes in between.
Amount = Annotated[msgspec.Raw, _amount("greater than 0", "string", "number", **_POSITIVE)]
# Raw JSON goes into no union with None: null is given as what it is.
OptionalAmount = (
    Annotated[msgspec.Raw, _amount("greater than 0", "string", "number", "null", **_POSITIVE)]
    | msgspec.UnsetType
)
Progress = (
    Annotated[
        msgspec.Raw,
        _amount("0 or more", "string", "number", "null", pattern=f"^{DECIMAL}$", minimum=0),
    ]
    | msgspec.UnsetType
)
Usd = Annotated[str, Meta(description="USD, a decimal with up to 9 fraction digits.")]
Moment = Annotated[
    str, Meta(description="RFC 3339, UTC.", extra_json_schema={"format": "date-time"})
]
UserId = Annotated[str, Meta(min_length=1, max_length=128, pattern=_NO_CONTROLS)]
Identifier = Annotated[str, Meta(min_length=1, max_length=128, pattern=_NO_CONTROLS)]
# What `X-Request-ID` may be.
RequestId = Annotated[
    str, Meta(min_length=1, max_length=128, pattern=r"^(?![\s\S]*[^A-Za-z0-9._-])")
]
Reference = Annotated[str, Meta(min_length=1, max_length=255, pattern=_NO_CONTROLS)]
Description = Annotated[str, Meta(max_length=1000, pattern=_NO_NUL)]
Reason = Annotated[str, Meta(min_length=1, max_length=1000, pattern=_NO_NUL)]
Seconds = Annotated[int, Meta(ge=1)]
# As it was stored, byte for byte.
Document = Annotated[msgspec.Raw, Meta(extra_json_schema={"type": ["object", "null"]})]
