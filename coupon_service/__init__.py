"""First-come-first-served coupons over Redis."""
