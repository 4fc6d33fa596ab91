"""First-come-first-served coupons over Redis."""

__version__ = "0.2.0"
