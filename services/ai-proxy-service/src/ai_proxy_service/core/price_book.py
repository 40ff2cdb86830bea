"""The prices in force: one catalogue at a time, replaced whole."""

from typing import NamedTuple

from ai_proxy_service.core.price_catalog import PriceCatalog
from ai_proxy_service.core.pricing import ModelPrice


class PricedModel(NamedTuple):
    """A model as it is sold to one request, whatever becomes of the catalogue meanwhile.

    Attributes:
        name: Gemini's id of it.
        price: what it costs.
        catalog_version: where that is from.
    """

    name: str
    price: ModelPrice
    catalog_version: str


class PriceBook:
    """Where each request reads its price, once.

    Attributes:
        catalog: the one in force. Who needs two things of it keeps it: it may be another soon.
    """

    def __init__(self, catalog: PriceCatalog) -> None:
        self.catalog = catalog

    def find(self, model: str) -> PricedModel | None:
        """Return a model with its price of now, or None: it is not sold."""
        catalog = self.catalog
        price = catalog.find(model)
        return None if price is None else PricedModel(model, price, catalog.version)
