"""A price catalogue that changes while the proxy runs: a good one is taken over, a bad one not."""

import asyncio
import os
from decimal import Decimal
from pathlib import Path

import pytest
import structlog

from ai_proxy_service.core.metrics import ProxyMetrics
from ai_proxy_service.core.price_book import PriceBook
from ai_proxy_service.core.price_catalog import load_catalog
from ai_proxy_service.services import price_watch
from ai_proxy_service.services.price_watch import PriceWatch
from support.prices import catalog_file, with_version

CHEAP, DEAR = [{"input": 400, "output": 400}], [{"input": 900, "output": 900}]


class Watched:
    """A catalogue in a file, the book that was read from it, and its watch."""

    def __init__(self, folder: Path, metrics: ProxyMetrics) -> None:
        self.path = catalog_file(folder, rates=CHEAP)
        self.book = PriceBook(load_catalog(self.path, Decimal(2)))
        self.metrics = metrics
        metrics.sells_at(self.book.catalog.version)
        self.watch = PriceWatch(self.path, Decimal(2), self.book, metrics)

    @property
    def input_pico(self) -> int:
        return self.book.catalog.models["m"].rates[0].input

    @property
    def versions(self) -> dict[str, float]:
        return self.metrics.readings().by_label("gateway_price_catalog_info", "version")

    @property
    def failures(self) -> float:
        return self.metrics.readings().total("gateway_price_catalog_reload_failures_total")


@pytest.fixture
async def watched(tmp_path: Path, metrics: ProxyMetrics) -> Watched:
    watched = Watched(tmp_path, metrics)
    await watched.watch.look()
    assert watched.input_pico == 800
    return watched


async def test_a_changed_catalogue_is_taken_over_with_its_mark_up(watched: Watched) -> None:
    with_version(catalog_file(watched.path.parent, rates=DEAR), "2")

    await watched.watch.look()

    assert watched.input_pico == 1_800
    assert watched.book.catalog.version == "2"
    assert watched.versions == {"test": 0, "2": 1}
    assert watched.failures == 0


async def test_one_that_took_the_place_of_another_is_seen_whatever_its_time(
    watched: Watched,
) -> None:
    """`mv` brings the time that the file had before, and the size may be the same."""
    (watched.path.parent / "new").mkdir()
    new = catalog_file(watched.path.parent / "new", rates=DEAR)
    found = watched.path.stat()
    os.utime(new, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert new.stat().st_size == found.st_size
    new.replace(watched.path)

    await watched.watch.look()

    assert watched.input_pico == 1_800


async def test_a_link_that_points_elsewhere_is_seen(watched: Watched, tmp_path: Path) -> None:
    """So Kubernetes swaps the files of a ConfigMap."""
    for name, rates in (("a", CHEAP), ("b", DEAR)):
        (tmp_path / name).mkdir()
        catalog_file(tmp_path / name, rates=rates)
    link = tmp_path / "current"
    link.symlink_to(tmp_path / "a")
    watch = PriceWatch(link / "prices.json", Decimal(2), watched.book, watched.metrics)
    await watch.look()
    link.unlink()
    link.symlink_to(tmp_path / "b")

    await watch.look()

    assert watched.input_pico == 1_800


async def test_what_changed_between_the_start_and_the_first_look_is_seen(
    tmp_path: Path, metrics: ProxyMetrics
) -> None:
    watched = Watched(tmp_path, metrics)
    catalog_file(tmp_path, rates=DEAR)

    await watched.watch.look()

    assert watched.input_pico == 1_800


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"version": "2", ', "truncated"),
        ('{"version": "2"}', "effective"),
        (b"\xff\xfe", "prices.json"),
        (None, "No such file"),
    ],
)
async def test_a_bad_catalogue_is_refused_once_and_the_old_one_stays(
    watched: Watched, content: str | bytes | None, reason: str
) -> None:
    if content is None:
        watched.path.unlink()
    else:
        watched.path.write_bytes(content if isinstance(content, bytes) else content.encode())

    with structlog.testing.capture_logs() as lines:
        await watched.watch.look()
        await watched.watch.look()

    (line,) = lines
    assert line["event"] == "price_catalog_refused"
    assert reason in line["reason"]
    assert watched.failures == 1
    assert watched.input_pico == 800
    assert watched.versions == {"test": 1}


async def test_a_price_that_cant_be_right_is_refused(watched: Watched) -> None:
    catalog_file(watched.path.parent, rates=[{"input": 0, "output": 400}])

    await watched.watch.look()

    assert (watched.input_pico, watched.failures) == (800, 1)


async def test_the_next_good_one_after_a_bad_one_is_taken_over(watched: Watched) -> None:
    watched.path.write_text("half")
    await watched.watch.look()
    catalog_file(watched.path.parent, rates=DEAR)

    await watched.watch.look()

    assert (watched.input_pico, watched.failures) == (1_800, 1)


async def test_a_version_that_was_not_changed_is_pointed_out(watched: Watched) -> None:
    catalog_file(watched.path.parent, rates=DEAR)

    with structlog.testing.capture_logs() as lines:
        await watched.watch.look()

    assert "price_catalog_version_unchanged" in {line["event"] for line in lines}
    assert watched.input_pico == 1_800


async def test_a_file_that_was_only_touched_changes_nothing(watched: Watched) -> None:
    before = watched.book.catalog
    os.utime(watched.path, ns=(1, 1))

    await watched.watch.look()

    assert watched.book.catalog is before
    assert watched.versions == {"test": 1}


async def test_a_request_keeps_the_price_that_it_began_with(watched: Watched) -> None:
    model = watched.book.find("m")
    with_version(catalog_file(watched.path.parent, rates=DEAR), "2")

    await watched.watch.look()

    assert model is not None
    assert (model.price.rates[0].input, model.catalog_version) == (800, "test")


async def test_it_looks_again_and_again(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after a look that found a bad file."""
    looked: asyncio.Queue[None] = asyncio.Queue()
    look = watched.watch.look

    async def noted() -> None:
        await look()
        looked.put_nowait(None)

    monkeypatch.setattr(price_watch, "LOOK_SECONDS", 0)
    monkeypatch.setattr(watched.watch, "look", noted)
    watched.path.write_text("half")
    running = asyncio.create_task(watched.watch.run())
    await looked.get()
    catalog_file(watched.path.parent, rates=DEAR)

    while watched.input_pico == 800:
        await asyncio.wait_for(looked.get(), 30)

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
