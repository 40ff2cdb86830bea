"""Where events go: the settings, refused if nothing could ever be delivered with them."""

import ipaddress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from credits_service.webhooks.signature import BadSecretError, parse_secret
from service_kit.keys import refuse_placeholder
from service_kit.public_addresses import AddressRules

_EVERYWHERE = ("0.0.0.0/0", "::/0")


class BadWebhookSettingError(ValueError):
    """The settings can't work; the message says which, and shows neither URL nor secret."""


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """The operator's endpoint.

    Attributes:
        url: where to post; it may hold a secret of its own.
        key: what deliveries are signed with.
        rules: the addresses that its name may lead to.
    """

    url: str = field(repr=False)
    key: bytes = field(repr=False)
    rules: AddressRules


def webhook_target(url: str, secret: str, *, allow_private: bool) -> WebhookTarget | None:
    """Return where events go; None if nobody wants them.

    Raises:
        BadWebhookSettingError: they could never be delivered, or not safely.
        BadKeySettingError: the secret is a placeholder.
    """
    if not url and not secret:
        return None
    if not url or not secret:
        raise BadWebhookSettingError("WEBHOOK_URL and WEBHOOK_SECRET are needed together")
    rules = AddressRules(_EVERYWHERE if allow_private else ())
    _check_url(url, rules, allow_private=allow_private)
    remedy = 'make one with `echo "whsec_$(openssl rand -base64 32)"`'
    refuse_placeholder(secret, "WEBHOOK_SECRET", remedy)
    try:
        key = parse_secret(secret)
    except BadSecretError as error:
        raise BadWebhookSettingError(f"WEBHOOK_SECRET {error}; {remedy}") from None
    return WebhookTarget(url, key, rules)


def _check_url(url: str, rules: AddressRules, *, allow_private: bool) -> None:
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname or "", parts.port
    except ValueError:
        raise BadWebhookSettingError("WEBHOOK_URL is not a valid URL") from None
    if parts.scheme not in {"https", "http"} or not host or not url.isascii():
        raise BadWebhookSettingError("WEBHOOK_URL is not a URL such as https://company.com/hook")
    if parts.scheme == "http" and not allow_private:
        raise BadWebhookSettingError(
            "WEBHOOK_URL begins with http://. Use https://, or set "
            "WEBHOOK_ALLOW_PRIVATE_ADDRESSES=true for a receiver in your own network"
        )
    if parts.username is not None or parts.password is not None:
        raise BadWebhookSettingError(
            "WEBHOOK_URL has a user name or a password in it; the signature tells who sends"
        )
    if _is_address(host) and not rules.permit(host):
        raise BadWebhookSettingError(
            "WEBHOOK_URL leads to an address that is not public. Set "
            "WEBHOOK_ALLOW_PRIVATE_ADDRESSES=true if that is meant"
        )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
