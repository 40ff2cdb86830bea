"""The ledger's busiest calls, which go past the router."""

from credits_service.api import batch, bill, holds
from credits_service.api.routes import PREFIX
from service_kit.hot_routes import HotRoute, HotTable

_HOLD = f"{PREFIX}/holds/{{hold_id}}"
EXACT: HotTable = {
    ("POST", f"{PREFIX}/bill"): HotRoute(f"{PREFIX}/bill", bill.bill),
    ("POST", f"{PREFIX}/holds"): HotRoute(f"{PREFIX}/holds", holds.place),
    ("POST", f"{PREFIX}/batch"): HotRoute(f"{PREFIX}/batch", batch.batch),
}
# With an identifier after the path.
IDENTIFIED: HotTable = {
    ("PATCH", f"{PREFIX}/holds"): HotRoute(_HOLD, holds.amend),
    ("DELETE", f"{PREFIX}/holds"): HotRoute(_HOLD, holds.release),
}
