"""What can go wrong with a ledger."""


class SinkError(Exception):
    """Raised when a sink cannot be read or written now; the text is one line that names it."""


class Busy(SinkError):
    """Raised when another process writes the sink, which can be written by one at a time."""


class GoneBack(Exception):
    """Raised when Redis lacks lines that a ledger has: it has lost them, in a failover or a crash;
    or when the log was trimmed before the ledger had all of it."""
