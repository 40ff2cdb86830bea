"""Takes over a price catalogue that was changed while the proxy runs.

Each worker looks for itself: uvicorn's supervisor passes no signal on. So workers may sell at
different versions for a moment; each charge names its own.
"""

import asyncio
from decimal import Decimal
from pathlib import Path

from ai_proxy_service.core.metrics import ProxyMetrics
from ai_proxy_service.core.price_book import PriceBook
from ai_proxy_service.core.price_catalog import PriceCatalog, PriceCatalogError, load_catalog
from service_kit.logging import get_logger

_log = get_logger(__name__)

LOOK_SECONDS = 2.0
# What changes with a file's content: also where another file is put in its place, or behind a
# symbolic link, as Kubernetes does.
_State = tuple[int, int, int, int] | None


class PriceWatch:
    """Keeps a price book at what its file says.

    Args:
        path: the file.
        markup: as at the start.
        book: what is kept.
        metrics: where versions and failures are told.
    """

    def __init__(self, path: Path, markup: Decimal, book: PriceBook, metrics: ProxyMetrics) -> None:
        self._path = path
        self._markup = markup
        self._book = book
        self._metrics = metrics
        # Nothing is known of the file that the book was read from: it may have changed since.
        self._seen: _State | tuple[()] = ()

    async def run(self) -> None:
        """Look for changes until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Take the file over if it has changed and can be used; if it can't, say so once."""
        # Before it is read: what is written meanwhile is a change of its own.
        state = _state_of(self._path)
        if state == self._seen:
            return
        self._seen = state
        try:
            catalog = await asyncio.to_thread(load_catalog, self._path, self._markup)
        except PriceCatalogError as error:
            self._metrics.price_reload_failures.inc()
            _log.error(
                "price_catalog_refused",
                reason=str(error),
                still_in_force=self._book.catalog.version,
            )
            return
        if catalog != self._book.catalog:
            self._take_over(catalog)

    def _take_over(self, catalog: PriceCatalog) -> None:
        before = self._book.catalog
        self._book.catalog = catalog
        self._metrics.sells_at(catalog.version, before.version)
        _log.info(
            "price_catalog_replaced",
            version=catalog.version,
            before=before.version,
            models=len(catalog.models),
        )
        if catalog.version == before.version:
            _log.warning(
                "price_catalog_version_unchanged",
                version=catalog.version,
                consequence="charges at old and at new prices name the same version",
                remedy="give each catalogue a version of its own",
            )


def _state_of(path: Path) -> _State:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev
