"""The machine with issued keys: their limits bind what names them, beside the account's."""

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from credits.machine import Expected, LedgerMachine
from credits.machine_draws import AMOUNTS, BOUNDS, NAMES, PICKS, RECENT, TTLS, latest
from credits.model_books import LIMITS, Key, ModelKey

_UNKNOWN: Key = ("no-key", ModelKey("nobody"))


class KeyedMachine(LedgerMachine):
    """Keys of all accounts; one in four is named beside an account that may not be its own."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: list[tuple[str, ModelKey]] = []

    def _key(self, user_id: str, pick: int) -> Key:
        own = [key for key in self.keys if key[1].user_id == user_id]
        return latest(own, pick) if own and pick % 4 else latest([*self.keys, _UNKNOWN], pick // 4)

    @rule(name=NAMES, day=BOUNDS, month=BOUNDS, total=BOUNDS, only=PICKS)
    def make_key(self, name: str, only: int, **bounds: int | None) -> None:
        user_id = self._user(name)
        account = self.model.accounts.get(user_id)
        if account is None or account.terms["status"] == "closed":
            return
        limits = {name: bounds[name] for name in LIMITS[only % 3 :]}
        self.keys.append((self.driver.make_key(user_id, limits), ModelKey(user_id, limits)))

    @precondition(lambda self: self.keys)
    @rule(pick=RECENT, bound=BOUNDS, limit=st.sampled_from(LIMITS))
    def limit_key(self, pick: int, bound: int | None, limit: str) -> None:
        key_id, key = latest(self.keys, pick)
        if not key.revoked:
            key.limits = key.limits | {limit: bound}
            self.driver.limit_key(key_id, {limit: bound})

    @precondition(lambda self: self.keys)
    @rule(pick=PICKS)
    def revoke_key(self, pick: int) -> None:
        """Who may ask is another's matter: what the key has begun goes on, within its limits."""
        key_id, key = latest(self.keys, pick)
        key.revoked = True
        self.driver.revoke_key(key_id)

    @precondition(lambda self: self.keys)
    @rule(name=NAMES, amount=AMOUNTS, pick=PICKS)
    def bill_with_key(self, name: str, amount: int, pick: int) -> None:
        user_id = self._user(name)
        self._run(self._bill(user_id, amount, self._key(user_id, pick)))

    @precondition(lambda self: self.keys)
    @rule(name=NAMES, amount=AMOUNTS, minimum=st.none() | AMOUNTS, ttl=TTLS, pick=PICKS)
    def place_hold_with_key(
        self, name: str, amount: int, minimum: int | None, ttl: int, pick: int
    ) -> None:
        user_id = self._user(name)
        minimum = None if minimum is None else min(minimum, amount)
        self._run(self._hold(user_id, amount, minimum, ttl, self._key(user_id, pick)))

    @precondition(lambda self: self.keys)
    @rule(
        name=NAMES,
        items=st.lists(st.tuples(AMOUNTS, PICKS, st.booleans()), min_size=2, max_size=6),
    )
    def batch_with_keys(self, name: str, items: list[tuple[int, int, bool]]) -> None:
        """What one of them takes or reserves the next ones know of."""
        user_id = self._user(name)
        expected: list[Expected] = []
        for amount, pick, is_hold in items:
            key = self._key(user_id, pick)
            expected.append(
                self._hold(user_id, amount, 1, 30, key)
                if is_hold
                else self._bill(user_id, amount, key)
            )
        self._run(*expected)
