"""Settings of the simulator, from environment variables of the same names in capitals."""

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings


class Settings(BaseSettings):
    """Where it listens, and how it behaves unless a request or the control endpoint says other."""

    host: str = "127.0.0.1"
    port: int = Field(default=8003, ge=0, le=65_535)
    log_level: str = "INFO"
    log_format: Literal["json", "console"] = "json"
    simulator_tokens_per_second: float = Field(default=0, ge=0)
    simulator_first_token_delay_seconds: float = Field(default=0, ge=0)
    simulator_tokens_per_chunk: int = Field(default=1, ge=1)
    simulator_invalid_api_keys: str = ""
    simulator_recorded_requests: int = Field(default=256, ge=0)
    simulator_max_body_bytes: int = Field(default=20_971_520, ge=1)

    def is_invalid_key(self, key: str) -> bool:
        """Tell whether an API key is to be refused."""
        listed = {name.strip() for name in self.simulator_invalid_api_keys.split(",")}
        return key.startswith("invalid") or (key in listed)
