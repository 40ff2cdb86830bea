"""The service's settings: read from the environment, refused with a reason if they can't work."""

from pathlib import Path

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings
from sqlalchemy import URL

from credits_service.core.errors import ConfigurationError
from credits_service.core.money import AmountError, decimal_from, nanos_from_usd
from credits_service.db.engine import SQLITE_DRIVER, DatabaseLimits, database_url
from credits_service.db.limits import Pooler
from credits_service.ledger.events import EventRules
from credits_service.webhooks.target import WebhookTarget, webhook_target
from service_kit.keys import BadKeySettingError, NamedKey, parse_keys
from service_kit.settings import CommonSettings

_EMBEDDED_LEDGER = "ledger.sqlite3"


class LedgerSettings(BaseSettings):
    """Where the ledger is kept: what the service and its command line have in common."""

    model_config = CommonSettings.model_config

    database_url: SecretStr = SecretStr("")
    data_dir: Path = Path("data")
    database_pool_size: int = Field(default=8, ge=1, le=200)
    database_connect_timeout_seconds: float = Field(default=5.0, gt=0, le=60)
    database_lock_timeout_seconds: float = Field(default=2.0, gt=0, le=60)
    database_statement_timeout_seconds: float = Field(default=10.0, gt=0, le=300)
    database_pooler: Pooler = "none"

    def ledger_url(self) -> URL:
        """Return where the ledger is kept.

        Raises:
            ConfigurationError: `DATABASE_URL` names no database that is supported.
        """
        text = self.database_url.get_secret_value()
        if text:
            return database_url(text)
        return URL.create(SQLITE_DRIVER, database=str(self.data_dir / _EMBEDDED_LEDGER))

    def database_limits(self) -> DatabaseLimits:
        """Return the pool's size and the time limits."""
        return DatabaseLimits(
            pool_size=self.database_pool_size,
            connect_seconds=self.database_connect_timeout_seconds,
            lock_seconds=self.database_lock_timeout_seconds,
            statement_seconds=self.database_statement_timeout_seconds,
            pooler=self.database_pooler,
        )


class CreditsSettings(LedgerSettings, CommonSettings):
    """Settings of credits-service; `.env.example` tells what each means."""

    port: int = Field(default=8001, ge=0, le=65535)
    admin_api_keys: SecretStr = SecretStr("")

    database_start_timeout_seconds: float = Field(default=15.0, ge=0, le=600)

    hold_ttl_default_seconds: int = Field(default=900, ge=1)
    hold_ttl_max_seconds: int = Field(default=86_400, ge=1)
    sweep_interval_seconds: float = Field(default=5.0, gt=0, le=3600)
    idempotency_retention_days: int = Field(default=30, ge=7, le=3650)

    webhook_url: SecretStr = SecretStr("")
    webhook_secret: SecretStr = SecretStr("")
    webhook_allow_private_addresses: bool = False
    low_balance_usd: str = ""

    # A bill is some hundred bytes; a batch has up to 500 operations.
    max_body_bytes: int = Field(default=1024 * 1024, ge=1024)

    @model_validator(mode="after")
    def _can_work(self) -> "CreditsSettings":
        url = self._parsed_url()
        if url.drivername == SQLITE_DRIVER and self.workers > 1:
            raise ValueError(
                f"WORKERS={self.workers} needs PostgreSQL: an SQLite ledger is written by one "
                "process. Set DATABASE_URL=postgresql://user:password@host:5432/name, or WORKERS=1"
            )
        if self.hold_ttl_default_seconds > self.hold_ttl_max_seconds:
            raise ValueError("HOLD_TTL_DEFAULT_SECONDS is larger than HOLD_TTL_MAX_SECONDS")
        self.keys()
        if self.event_rules() is None and self.low_balance_usd:
            raise ValueError("LOW_BALANCE_USD needs WEBHOOK_URL: nobody would be told")
        return self

    def _parsed_url(self) -> URL:
        try:
            return self.ledger_url()
        except ConfigurationError as error:
            raise ValueError(str(error)) from None

    def webhook_target(self) -> WebhookTarget | None:
        """Return where events go; None if nobody wants them.

        Raises:
            BadWebhookSettingError: they could never be delivered, or not safely.
        """
        return webhook_target(
            self.webhook_url.get_secret_value(),
            self.webhook_secret.get_secret_value(),
            allow_private=self.webhook_allow_private_addresses,
        )

    def event_rules(self) -> EventRules | None:
        """Return which events are written down; None if nobody wants them.

        Raises:
            ValueError: a setting can't work.
        """
        threshold = _low_balance_nanos(self.low_balance_usd)
        return None if self.webhook_target() is None else EventRules(threshold)

    def keys(self) -> tuple[list[NamedKey], list[NamedKey]]:
        """Return the service keys and the admin keys.

        Raises:
            BadKeySettingError: one is not acceptable, or both lists share a key or a name.
        """
        service = self.service_keys()
        admin = parse_keys(self.admin_api_keys.get_secret_value(), setting="ADMIN_API_KEYS")
        names, keys = {key.name for key in service}, {key.key for key in service}
        # A name is also the scope of its idempotency keys: two callers must not share one.
        if any(key.name in names or key.key in keys for key in admin):
            raise BadKeySettingError("ADMIN_API_KEYS repeats a key or a name of API_KEYS")
        return service, admin


def _low_balance_nanos(text: str) -> int | None:
    if not text:
        return None
    try:
        return nanos_from_usd(decimal_from(text))
    except AmountError as error:
        raise ValueError(f"LOW_BALANCE_USD {error}") from None
