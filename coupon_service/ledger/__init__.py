"""The ledger: a copy of coupon-log outside Redis, in files or in a table."""
