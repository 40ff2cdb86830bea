"""The settings that both services have, and a start-up that explains what is wrong with them."""

import sys
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

from service_kit.keys import BadKeySettingError, NamedKey, parse_keys
from service_kit.logging import LogFormat

DEFAULT_EXEMPT_PATHS = ("/health", "/ready", "/metrics", "/docs", "/openapi.json")


def split_commas(value: object) -> object:
    """Accept a comma-separated string where a setting is a list."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _no_wildcard(origins: tuple[str, ...]) -> tuple[str, ...]:
    if "*" in origins:
        raise ValueError("'*' is not accepted: name the origins")
    return origins


CommaSeparated = Annotated[tuple[str, ...], NoDecode]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]


class CommonSettings(BaseSettings):
    """Settings of both services, read from the environment and from ``.env``."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        str_strip_whitespace=True,
    )

    host: str = "127.0.0.1"
    port: int = Field(ge=0, le=65535)
    workers: int = Field(default=1, ge=1, le=256)
    log_level: LogLevel = "INFO"
    log_format: LogFormat = "json"

    api_keys: SecretStr = SecretStr("")
    auth_enabled: bool = True
    auth_exempt_paths: CommaSeparated = DEFAULT_EXEMPT_PATHS

    rate_limit_enabled: bool = True
    rate_limit_per_minute: int = Field(default=60, ge=1)
    rate_limit_storage_uri: SecretStr = SecretStr("memory://")
    forwarded_allow_ips: str = ""

    cors_allowed_origins: Annotated[CommaSeparated, AfterValidator(_no_wildcard)] = ()
    cors_allowed_headers: CommaSeparated = ("Content-Type", "Authorization")

    max_body_bytes: int = Field(default=20 * 1024 * 1024, ge=1024)
    graceful_shutdown_seconds: int = Field(default=30, ge=1)

    @field_validator(
        "auth_exempt_paths", "cors_allowed_origins", "cors_allowed_headers", mode="before"
    )
    @classmethod
    def _split(cls, value: object) -> object:
        return split_commas(value)

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    def service_keys(self) -> list[NamedKey]:
        """Return the keys of `API_KEYS`.

        Raises:
            BadKeySettingError: none is configured although authentication is on, or one is
                not acceptable.
        """
        keys = parse_keys(self.api_keys.get_secret_value(), setting="API_KEYS")
        if self.auth_enabled and not keys:
            raise BadKeySettingError(
                "API_KEYS is empty. Set it to one or more keys (`openssl rand -hex 24` makes one), "
                "or say AUTH_ENABLED=false outright"
            )
        return keys


SettingsT = TypeVar("SettingsT", bound=BaseSettings)


def load_settings(settings_class: type[SettingsT]) -> SettingsT:
    """Read the settings, or end the program with one line for each that is wrong."""
    try:
        return settings_class()
    except ValidationError as error:
        problems = [_explain(problem["loc"], problem["msg"]) for problem in error.errors()]
    except (SettingsError, UnicodeDecodeError, BadKeySettingError) as error:
        problems = [str(error)]
    sys.exit(settings_failure(problems))


def settings_failure(problems: list[str]) -> str:
    """Say which settings are wrong and where they are read from."""
    lines = "\n".join(f"  - {problem}" for problem in problems)
    return (
        f"The settings can't be used:\n{lines}\n"
        "They are read from the environment and from the file .env in the current folder; "
        ".env.example shows each with its meaning."
    )


def _explain(location: tuple[int | str, ...], message: str) -> str:
    name = ".".join(str(part) for part in location).upper()
    text = message.removeprefix("Value error, ")
    return f"{name}: {text}" if name else text
