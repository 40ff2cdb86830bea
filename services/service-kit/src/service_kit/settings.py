"""The settings that both services have, and a start-up that explains what is wrong with them."""

import ipaddress
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from dotenv.parser import parse_stream
from pydantic import AfterValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

from service_kit.addresses import check_store_uri
from service_kit.drain import Drain
from service_kit.keys import BadKeySettingError, NamedKey, parse_keys
from service_kit.logging import LogFormat

PORT_MAX = 65535
DEFAULT_EXEMPT_PATHS = ("/health", "/ready", "/metrics", "/docs", "/openapi.json")


def split_commas(value: object) -> object:
    """Accept a comma-separated string where a setting is a list."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


_ORIGIN = re.compile(r"(?i)[a-z][a-z0-9+.-]*://[^/*\s]+")
_STORAGE = re.compile(r"memory://|(redis|valkey)(s|\+unix)?://.+")


def _origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    for origin in origins:
        if "*" in origin:
            raise ValueError("'*' is not accepted: name the origins")
        if not _ORIGIN.fullmatch(origin):
            raise ValueError(f"{origin!r} is not an origin such as https://app.company.com")
    return origins


def _paths(paths: tuple[str, ...]) -> tuple[str, ...]:
    for path in paths:
        if not path.startswith("/"):
            raise ValueError(f"{path!r} is not a path: it begins with '/'")
    return paths


def _addresses(value: str) -> str:
    for address in filter(None, map(str.strip, value.split(","))):
        if address != "*":
            try:
                ipaddress.ip_network(address, strict=False)
            except ValueError:
                raise ValueError(
                    f"{address!r} is neither an IP address nor a network such as 10.0.0.0/8"
                ) from None
    return value


def _storage(uri: SecretStr) -> SecretStr:
    if not _STORAGE.fullmatch(uri.get_secret_value()):
        raise ValueError("it is memory://, redis://host:port/db or valkey://host:port/db")
    check_store_uri(uri.get_secret_value())
    return uri


def _endpoint(url: str) -> str:
    if url and not re.fullmatch(r"https?://[^/\s]+\S*", url):
        raise ValueError("it is a URL such as http://127.0.0.1:4318")
    return url


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
    port: int
    workers: int = Field(default=1, ge=1, le=256)
    log_level: LogLevel = "INFO"
    log_format: LogFormat = "json"

    api_keys: SecretStr = SecretStr("")
    auth_enabled: bool = True
    auth_exempt_paths: Annotated[CommaSeparated, AfterValidator(_paths)] = DEFAULT_EXEMPT_PATHS

    rate_limit_enabled: bool = True
    rate_limit_per_minute: int = Field(default=60, ge=1)
    rate_limit_storage_uri: Annotated[SecretStr, AfterValidator(_storage)] = SecretStr("memory://")
    rate_limit_store_timeout_seconds: float = Field(default=0.25, ge=0.01, le=10)
    forwarded_allow_ips: Annotated[str, AfterValidator(_addresses)] = ""

    cors_allowed_origins: Annotated[CommaSeparated, AfterValidator(_origins)] = ()
    cors_allowed_headers: CommaSeparated = ("Content-Type", "Authorization")

    max_body_bytes: int = Field(default=20 * 1024 * 1024, ge=1024)
    max_header_bytes: int = Field(default=32 * 1024, ge=1024, le=1024 * 1024)
    request_header_timeout_seconds: float = Field(default=10.0, gt=0, le=600)
    request_body_timeout_seconds: float = Field(default=120.0, gt=0, le=3600)
    send_timeout_seconds: float = Field(default=60.0, gt=0, le=3600)
    metrics_port: int = Field(default=0, ge=0, le=PORT_MAX)
    docs_enabled: bool = True
    otel_exporter_otlp_endpoint: Annotated[str, AfterValidator(_endpoint)] = ""
    core_dumps_allowed: bool = False
    shutdown_delay_seconds: float = Field(default=0, ge=0, le=300)
    drain_seconds: int = Field(default=20, ge=1, le=3600)

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

    # Not bounds of the field: a service that gives it a default would lose them.
    @field_validator("port")
    @classmethod
    def _port(cls, value: int) -> int:
        if not 0 <= value <= PORT_MAX:
            raise ValueError(f"a port is from 0 to {PORT_MAX}")
        return value

    def drain(self) -> Drain:
        """Return how the process is to end."""
        return Drain(delay_seconds=self.shutdown_delay_seconds, drain_seconds=self.drain_seconds)

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
    problems = dotenv_problems(_env_files(settings_class))
    if not problems:
        try:
            settings = settings_class()
            if isinstance(settings, CommonSettings):
                settings.service_keys()
        except ValidationError as error:
            problems = [_explain(problem["loc"], problem["msg"]) for problem in error.errors()]
        except (SettingsError, BadKeySettingError) as error:
            problems = [str(error)]
        else:
            return settings
    sys.exit(settings_failure(problems))


def _env_files(settings_class: type[BaseSettings]) -> list[Path]:
    named = settings_class.model_config.get("env_file") or ()
    return [Path(file) for file in ([named] if isinstance(named, str | Path) else named)]


def dotenv_problems(files: Iterable[Path]) -> list[str]:
    """Say what is wrong with `.env` files: the library itself skips lines it can't read."""
    problems: list[str] = []
    for file in files:
        try:
            with file.open(encoding="utf-8") as stream:
                problems += [
                    f"{file}, line {binding.original.line}: this is not NAME=value "
                    "(a quote that is not closed?)"
                    for binding in parse_stream(stream)
                    if binding.error
                ]
        except FileNotFoundError:
            continue
        except UnicodeDecodeError:
            problems.append(f"{file} is not UTF-8 text; save it as UTF-8")
        except OSError as error:
            problems.append(f"{file} can't be read: {error.strerror}")
    return problems


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
