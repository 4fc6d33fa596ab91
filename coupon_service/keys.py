"""The names of all keys in Redis, and which ids may become part of them."""

#: Both ids end up in keys, URLs and log lines; these patterns are to be matched in full.
COUPON_ID = r"[A-Za-z0-9._~-]{1,64}"
#: Any characters but controls and lone surrogates, which no UTF-8 text can carry.
USER_ID = r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,128}"
#: The same for ids that come in over HTTP. What stands for "here" or "above" in a path is refused,
#: because clients resolve it before they send it (WHATWG URL, "double-dot URL path segment"), and
#: so are the names of endpoints. Versions before 0.2 admitted such ids, which are still decided.
NEW_COUPON_ID = rf"(?!(?:\.\.?|request|register)(?![A-Za-z0-9._~-])){COUPON_ID}"
NEW_USER_ID = rf"(?!(?:.*[/\\])?(?:\.|%2[Ee]){{1,2}}(?:[/\\]|\Z)){USER_ID}"
#: Visible ASCII; without blanks, because the marks are split at one.
REQUEST_ID = r"[\x21-\x7e]{1,64}"

#: The consumer group of the workers on the request stream.
GROUP = "issuers"


class Keys:
    """Spells the keys. The prefix goes before every name; ids have matched the patterns.

    `coupons` is a sorted set of the ids of the registered coupons, all with score 0; `removals`
    one of couponId to the instant (ms since 1970) from which the coupon is to be removed;
    `format` the number of the data format; `partitions` how many partitions there are, where that
    is more than one, in each of them; `migrated` what `coupons` becomes, see migration.py;
    `trimmed` the id of the newest line that was trimmed from the log; `ledger` a hash of what the
    copiers of the log note, see ledger/copier.py;
    `decision_times` how long the decisions took that were observed, see admin/decision_times.py;
    `never` is a key that there never is, see connection.py.
    """

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.format = f"{prefix}coupons:format"
        self.partitions = f"{prefix}coupons:partitions"
        self.coupons = f"{prefix}coupons"
        self.migrated = f"{prefix}coupons:migrated"
        self.removals = f"{prefix}coupons:removals"
        self.requests = f"{prefix}coupon-requests"
        self.dead = f"{prefix}coupon-requests:dead"
        self.log = f"{prefix}coupon-log"
        self.trimmed = f"{prefix}coupon-log:trimmed"
        self.ledger = f"{prefix}coupon-log:ledger"
        self.decision_times = f"{prefix}coupons:decision-times"
        self.never = f"{prefix}coupons:never"

    def coupon(self, coupon_id: str) -> str:
        """Hash: quantity, the instants (ms since 1970) and the counters of refusals.

        With a deletedAt the coupon is unknown to every script and read, and being removed."""
        return f"{self.prefix}coupon:{coupon_id}"

    def stock(self, coupon_id: str) -> str:
        """Whole number: coupons left to issue."""
        return f"{self.prefix}coupon:{coupon_id}:stock"

    def requested(self, coupon_id: str) -> str:
        """Whole number: places taken, pending or issued."""
        return f"{self.prefix}coupon:{coupon_id}:requested"

    def pending(self, coupon_id: str) -> str:
        """Hash of userId to `<requestId> <id of the entry>`: admitted and not yet decided."""
        return f"{self.prefix}coupon:{coupon_id}:pending"

    def issuances(self, coupon_id: str) -> str:
        """Stream with one entry for each issuance mark: userId, under the id it has in the log."""
        return f"{self.prefix}coupon:{coupon_id}:issuances"

    def series(self, coupon_id: str) -> str:
        """Hash: what was issued over time. Three archives, of spans of 1, 60 and 3,600 s, each with
        the newest 240 spans in which something changed, by `<span>:<number % 240>` of the span:
        `<s since 1970 at its start> <issued, cancellations taken off> <added to the quantity>`."""
        return f"{self.prefix}coupon:{coupon_id}:series"

    def user(self, coupon_id: str, user_id: str) -> str:
        """The issuance mark: `<requestId> <id of the entry in coupon-log>`."""
        return f"{self.prefix}coupon:{coupon_id}:user:{user_id}"
