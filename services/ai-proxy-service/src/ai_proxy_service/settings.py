"""The proxy's settings. Each is in .env.example and in the deployment guide."""

import ipaddress
import re
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings

from ai_proxy_service.core.authorisation import HoldPolicy
from ai_proxy_service.core.models import parse_aliases
from ai_proxy_service.services.gemini_client import GeminiClientKind
from ai_proxy_service.translation.google_options import Threshold
from service_kit.addresses import check_base_url, check_store_uri
from service_kit.keys import BadKeySettingError, check_key, refuse_placeholder
from service_kit.settings import CommaSeparated, CommonSettings, split_commas

GEMINI_URL = "https://generativelanguage.googleapis.com"

_MEMORY = re.compile(r"|memory://|(redis|valkey)(s|\+unix)?://.+")


def _memory_uri(uri: SecretStr) -> SecretStr:
    if not _MEMORY.fullmatch(uri.get_secret_value()):
        raise ValueError(
            "it is memory://, redis://host:port/db or valkey://host:port/db; empty for a file "
            "in DATA_DIR"
        )
    check_store_uri(uri.get_secret_value())
    return uri


def _usage_log_url(url: SecretStr) -> SecretStr:
    if not re.fullmatch(r"|postgres(ql)?(\+asyncpg)?://.+", url.get_secret_value()):
        raise ValueError("it is postgresql://user@host/database; empty for a file in DATA_DIR")
    check_store_uri(url.get_secret_value())
    return url


def _networks(networks: tuple[str, ...]) -> tuple[str, ...]:
    for network in networks:
        try:
            ipaddress.ip_network(network)
        except ValueError:
            raise ValueError(f"{network!r} is not a network such as 10.1.2.0/24") from None
    return networks


BUNDLED_CATALOG = Path(str(resources.files("ai_proxy_service.data") / "prices.json"))


class PriceSettings(BaseSettings):
    """What is sold, under which names, and at which mark-up."""

    model_config = CommonSettings.model_config

    price_catalog_path: Path = BUNDLED_CATALOG
    price_markup: Decimal = Field(default=Decimal(1), gt=0, le=100)
    model_aliases: str = ""

    @field_validator("model_aliases")
    @classmethod
    def _aliases_parse(cls, value: str) -> str:
        parse_aliases(value)
        return value


class UsageLogSettings(BaseSettings):
    """Where the record of each charge is kept, and how long."""

    model_config = CommonSettings.model_config

    data_dir: Path = Path("./data")
    usage_log_url: Annotated[SecretStr, AfterValidator(_usage_log_url)] = SecretStr("")
    usage_log_retention_days: int = Field(default=400, ge=0)


class ProxySettings(CommonSettings, PriceSettings, UsageLogSettings):
    """What the operator decides."""

    port: int = Field(default=8002, ge=0, le=65535)

    gemini_api_key: SecretStr
    gemini_base_url: str = GEMINI_URL
    gemini_client: GeminiClientKind = "rest"
    gemini_connections_max: int = Field(default=0, ge=0)
    gemini_sdk_threads: int = Field(default=64, ge=1, le=1000)

    credits_service_url: str = ""
    credits_service_api_key: SecretStr = SecretStr("")

    rate_limit_completions_per_minute: int = Field(default=30, ge=1)
    hold_policy: HoldPolicy = HoldPolicy.WINDOWED
    on_disconnect: Literal["drain", "cancel"] = "drain"

    call_memory_uri: Annotated[SecretStr, AfterValidator(_memory_uri)] = SecretStr("")
    answer_store_uri: Annotated[SecretStr, AfterValidator(_memory_uri)] = SecretStr("")
    media_max_bytes: int = Field(default=20 * 1024 * 1024, ge=1024)
    media_timeout_seconds: float = Field(default=10.0, gt=0, le=120)
    media_allowed_networks: Annotated[CommaSeparated, AfterValidator(_networks)] = ()
    safety_threshold: Threshold | Literal[""] = ""
    stream_usage: Literal["asked", "always"] = "asked"

    @field_validator("gemini_base_url", "credits_service_url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        if value:
            check_base_url(value)
        return value.rstrip("/")

    @field_validator("media_allowed_networks", mode="before")
    @classmethod
    def _split_networks(cls, value: object) -> object:
        return split_commas(value)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.gemini_keys():
            raise ValueError("GEMINI_API_KEY has no key in it")
        for number, key in enumerate(self.gemini_keys(), start=1):
            # Google decides what its keys look like, so that nothing else is asked of them.
            refuse_placeholder(
                key,
                f"GEMINI_API_KEY, key number {number}",
                "take a real one from https://aistudio.google.com/apikey",
            )
        if bool(self.credits_service_url) != bool(self.credits_service_api_key.get_secret_value()):
            raise ValueError(
                "CREDITS_SERVICE_URL and CREDITS_SERVICE_API_KEY belong together: set both to bill "
                "every completion, or neither to log charges only"
            )
        self._check_credits_key()
        if self.workers > 1 and self.answer_store_uri.get_secret_value() == "memory://":
            raise ValueError(
                "ANSWER_STORE_URI: memory:// is for one process, and WORKERS are more: each would "
                "answer, and charge, the same idempotency key"
            )
        self.service_keys()
        return self

    def _check_credits_key(self) -> None:
        key = self.credits_service_api_key.get_secret_value()
        if not key:
            return
        if ":" in key or "," in key:
            raise BadKeySettingError(
                "CREDITS_SERVICE_API_KEY is one key without a name: of name:key in the credits "
                "service's API_KEYS, what follows the colon"
            )
        check_key(key, "CREDITS_SERVICE_API_KEY")

    def gemini_keys(self) -> tuple[str, ...]:
        """Return the Gemini API keys, which are used in turn."""
        keys = self.gemini_api_key.get_secret_value().split(",")
        return tuple(key.strip() for key in keys if key.strip())

    @property
    def billing_enforced(self) -> bool:
        """Whether completions need credit."""
        return bool(self.credits_service_url)
