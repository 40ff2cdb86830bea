"""What the command reads from the environment (and `.env`), where the service reads it too."""

from pathlib import Path
from typing import TypeVar

from pydantic import SecretStr
from pydantic_settings import BaseSettings

from credits_service.cli.failures import usage
from service_kit.keys import BadKeySettingError, parse_keys
from service_kit.settings import CommonSettings, load_settings

SettingsT = TypeVar("SettingsT", bound=BaseSettings)


class KeySettings(BaseSettings):
    """The keys; they come from here or from a file, never from arguments."""

    model_config = CommonSettings.model_config

    credits_api_key: SecretStr = SecretStr("")
    admin_api_keys: SecretStr = SecretStr("")

    def api_key(self) -> str | None:
        """Return the key to present: CREDITS_API_KEY, or the first admin key, if there is one.

        Raises:
            CommandError: the setting holds no acceptable key.
        """
        text = self.credits_api_key.get_secret_value()
        if text:
            return text
        try:
            keys = parse_keys(self.admin_api_keys.get_secret_value(), setting="ADMIN_API_KEYS")
        except BadKeySettingError as error:
            raise usage(str(error)) from None
        return keys[0].key if keys else None


def key_of(file: Path) -> str:
    """Return the key that a file holds.

    Raises:
        CommandError: it can't be read, or holds something else.
    """
    try:
        key = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeError) as error:
        raise usage(f"The key file {file} can't be read: {error}") from None
    if not key or not key.isprintable() or " " in key:
        raise usage(f"The key file {file} must hold one API key and nothing else.")
    return key


def load(settings_class: type[SettingsT]) -> SettingsT:
    """Read settings.

    Raises:
        CommandError: one can't be used.
    """
    try:
        return load_settings(settings_class)
    except SystemExit as error:
        raise usage(str(error.code)) from None
