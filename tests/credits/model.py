"""A second, simpler account of what the ledger must do, for the rules to be compared with.

Here a hold takes its credit out of the lots and carries it, what was spent is a list of
charges, a refund takes back from what is left of a charge, and nothing is journalled but a
count; the rules leave credit in the lots and mark it, and keep counters and rows. Both must
come to the same figures.
"""

from typing import Any

from credits.model_books import (
    LIMITS,
    Answer,
    Books,
    ModelAccount,
    ModelCharge,
    ModelHold,
    ModelKey,
    ModelLot,
    usd,
)


class Model(Books):
    """Every operation returns the status of the service's answer, and some of its fields."""

    def top_up(self, user_id: str, amount: int, priority: int, expires_at: int | None) -> Answer:
        self.settle_due(user_id)
        if expires_at is not None and expires_at <= self.now:
            return 422, {"code": "invalid_value"}
        account = self.accounts.setdefault(user_id, ModelAccount())
        if account.terms["status"] == "closed":
            return 409, {"code": "account_closed"}
        account.lots.append(ModelLot(priority, expires_at, len(account.lots), amount))
        account.seq += 1
        self.note(user_id)
        return 201, {"amount": usd(amount), **self.figures(user_id)}

    def bill(
        self, user_id: str, amount: int, key: ModelKey | None = None
    ) -> tuple[Answer, ModelCharge | None]:
        self.settle_due(user_id)
        refusal = self._refusal(user_id, amount, key)
        if refusal:
            return refusal, None
        account = self.accounts[user_id]
        charge = ModelCharge(user_id, self.take(user_id, amount))
        self.spend(user_id, key, amount)
        account.seq += 1
        self.note(user_id)
        return (200, {"amount": usd(amount), **self.figures(user_id)}), charge

    def place(
        self,
        user_id: str,
        amount: int,
        minimum: int | None,
        ttl: int,
        key: ModelKey | None = None,
    ) -> tuple[Answer, ModelHold | None]:
        self.settle_due(user_id)
        reserved = min(amount, self.spendable(user_id, key)[0])
        refusal = self._refusal(user_id, minimum or amount, key)
        if refusal:
            return refusal, None
        carried = self.take(user_id, reserved)
        hold = ModelHold(user_id, len(self.holds), reserved, self.now + ttl, carried, key)
        self.holds.append(hold)
        return (201, self.hold_fields(hold)), hold

    def _refusal(
        self, user_id: str, required: int, key: ModelKey | None, own: int = 0
    ) -> Answer | None:
        status = self.accounts[user_id].terms["status"] if user_id in self.accounts else "open"
        if status != "open":
            return 403 if status == "frozen" else 409, {"code": f"account_{status}"}
        if user_id in self.accounts and key is not None and key.user_id != user_id:
            return 422, {"code": "invalid_value"}
        # Who has no account has no key, and nothing to spend.
        spendable, limit = self.spendable(user_id, key)
        if required <= spendable:
            return None
        lacks_credit = required > self.available(user_id)
        could = min([self.balance(user_id), *self.left(user_id).values(), *self.left_of(key)])
        return 402, {
            "code": "insufficient_credit" if lacks_credit else "spend_limit_reached",
            "available": usd(spendable),
            "required": usd(required),
            "retryable": required + own <= could,
            **({} if lacks_credit else {"limit": limit}),
        }

    def amend(self, hold: ModelHold, amount: int | None, ttl: int | None, progress: int) -> Answer:
        self.settle_due(hold.user_id)
        if hold.status != "active":
            return 409, {"code": "hold_ended"}
        extra = max(0, (amount or 0) - hold.amount)
        refusal = self._refusal(hold.user_id, extra, hold.key, hold.rest()) if extra else None
        if refusal:
            return refusal
        hold.carried += self.take(hold.user_id, extra)
        hold.amount += extra
        hold.expires_at = max(hold.expires_at, self.now + (ttl or 0))
        hold.progress = max(hold.progress, progress)
        return 200, self.hold_fields(hold)

    def capture(
        self, hold: ModelHold, amount: int, *, final: bool
    ) -> tuple[Answer, ModelCharge | None]:
        self.settle_due(hold.user_id)
        late = hold.status == "expired" and not hold.late_captured
        if hold.status != "active" and not late:
            return (409, {"code": "hold_ended"}), None
        counted = min(amount, hold.charged_at_expiry)
        hold.charged_at_expiry -= counted
        charge, missing = self.use(hold, amount - counted)
        hold.used += amount
        charged = charge.rest()
        if late:
            hold.late_captured = final
        elif final:
            self.end(hold, "captured")
        self.note(hold.user_id)
        self.expire_lots(hold.user_id)
        self.note(hold.user_id)
        told = {"requested": usd(amount), "settled_before": usd(counted)}
        told |= {"amount": usd(charged), "shortfall": usd(missing)}
        # The number in the answer is that of the charge, not of what expired after it.
        return (200, told | self.figures(hold.user_id) | {"seq": charge.seq}), charge

    def release(self, hold: ModelHold) -> Answer:
        self.settle_due(hold.user_id)
        if hold.status == "active":
            self.end(hold, "released")
            self.expire_lots(hold.user_id)
            self.note(hold.user_id)
        return 200, self.hold_fields(hold)

    def refund(self, charge: ModelCharge, amount: int | None) -> Answer:
        user_id = charge.user_id
        self.settle_due(user_id)
        account, rest = self.accounts[user_id], charge.rest()
        if account.terms["status"] == "closed":
            return 409, {"code": "account_closed"}
        if not rest:
            return 409, {"code": "already_refunded" if charge.given_back else "nothing_to_refund"}
        wanted = rest if amount is None else amount
        if wanted > rest:
            return 422, {"code": "invalid_value"}
        charge.given_back += wanted
        missing = wanted
        while missing:
            lot, nanos = charge.left.pop()
            back = min(nanos, missing)
            lot.left += back
            missing -= back
            if nanos > back:
                charge.left.append((lot, nanos - back))
        account.seq += 1
        self.note(user_id)
        self.expire_lots(user_id)
        self.note(user_id)
        told = {"amount": usd(wanted), "refunded": usd(charge.given_back)}
        return 201, told | {"refundable": usd(charge.rest())} | self.figures(user_id)

    def change(self, user_id: str, asked: dict[str, Any], *, forfeit: bool = False) -> Answer:
        account = self.accounts.get(user_id)
        if account is None:
            return 404, {"code": "account_not_found"}
        self.settle_due(user_id)
        # A limit that was never set is one that is taken away.
        new = dict.fromkeys(LIMITS) | account.terms | asked
        if new != dict.fromkeys(LIMITS) | account.terms:
            if account.terms["status"] == "closed":
                return 409, {"code": "account_closed"}
            if new["status"] == "closed":
                if self.held(user_id):
                    return 409, {"code": "account_has_holds"}
                if self.balance(user_id):
                    if not forfeit:
                        return 409, {"code": "account_not_empty"}
                    for lot in account.lots:
                        lot.left = 0
                    account.seq += 1
                    self.note(user_id)
            account.terms = new
            account.seq += 1
        return 200, self.account_fields(user_id)
