"""A relay over a fake Gemini and one account, for the tests of what is held and charged."""

from ai_proxy_service.core.authorisation import HoldPolicy
from ai_proxy_service.core.completion import Completion
from ai_proxy_service.core.key_refusals import KeyRefusals
from ai_proxy_service.core.metrics import ProxyMetrics
from ai_proxy_service.core.relay import Relay
from support.fakes import FakeBilling, FakeGemini, text_chunk
from support.usage_logs import MemoryUsageLog

USD = 1_000_000_000


class Bench:
    """A relay over a fake Gemini and one account."""

    def __init__(self, metrics: ProxyMetrics) -> None:
        self.gemini = FakeGemini(
            [text_chunk("hi", output=4), text_chunk("", output=5, finish="STOP")]
        )
        self.billing = FakeBilling(5 * USD)
        self.metrics = metrics
        self.refusals = KeyRefusals(metrics.keys)
        self.log = MemoryUsageLog()
        self.drain = True
        self.policy = HoldPolicy.WINDOWED

    def relay(self) -> Relay:
        return Relay(
            gemini=self.gemini,
            billing=self.billing,
            metrics=self.metrics,
            refusals=self.refusals,
            log=self.log,
            policy=self.policy,
            drain_on_disconnect=self.drain,
        )

    def holds_open(self) -> float:
        return self.metrics.readings().total("gateway_holds_open")


async def read_all(completion: Completion) -> int:
    chunks = 0
    while received := await completion.receive():
        chunks += len(received)
    return chunks
