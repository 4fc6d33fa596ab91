"""What concerns the coupons of all partitions: each is asked, and their answers are merged.

A partition that cannot be used leaves the others usable: its number is returned beside what the
others have. Only when none can be used, `Unavailable` is raised.
"""

from collections.abc import Callable
from contextlib import suppress
from heapq import merge
from itertools import islice
from threading import Thread
from typing import Any, TypeVar

from coupon_service.admin.coupon_list import CouponList
from coupon_service.errors import CouponError, Unavailable
from coupon_service.installation import Installation, Partitions

T = TypeVar("T")


def list_coupons(
    partitions: Partitions, limit: int, after: str = "", prefix: str = ""
) -> tuple[list[dict[str, Any]], str, list[int]]:
    """List coupons by id.

    Args:
        limit: how many at the most, 1 or more.
        after: the couponId after which the page begins; empty for the first page.
        prefix: what the ids are to begin with.

    Returns:
        What `CouponList.snapshots` returns; the `after` of the next page, empty at the end; and the
        numbers of the partitions that are missing.
    """
    found, missing = _ask(partitions, lambda coupons: coupons.ids(after, limit, prefix))
    ids = list(islice(merge(*found), limit))
    shown: dict[str, dict[str, Any]] = {}
    for installation, its in partitions.by_installation(ids).items():
        try:
            read = CouponList(installation).snapshots(its)
        except Unavailable:
            missing.append(installation.partition)
            if len(missing) == partitions.config.partitions:
                raise
            continue
        shown |= {each["couponId"]: each for each in read}
    page = [shown[coupon_id] for coupon_id in ids if coupon_id in shown]
    return page, ids[-1] if len(ids) == limit else "", sorted(missing)


def held_by(partitions: Partitions, user_id: str) -> tuple[list[dict[str, Any]], list[int]]:
    """List what a user holds, of the coupons that are registered.

    Returns:
        What `CouponList.held_by` returns; and the numbers of the partitions that are missing.
    """
    found, missing = _ask(partitions, lambda coupons: coupons.held_by(user_id))
    return list(merge(*found, key=lambda held: held["couponId"])), missing


def ask_at_once(
    partitions: Partitions, call: Callable[[Installation], T]
) -> dict[Installation, T | None]:
    """Ask all partitions at the same time, so that those that do not answer cost their time-out
    once and not one after the other.

    Returns:
        What `call` returned for each, in their order; None where it raised a CouponError.
    """
    answers: dict[Installation, T | None] = dict.fromkeys(partitions)

    def ask(installation: Installation) -> None:
        with suppress(CouponError):
            answers[installation] = call(installation)

    first, *others = [Thread(target=ask, args=(each,)) for each in partitions]
    for thread in others:
        thread.start()
    first.run()  # in this thread: mostly there is no other
    for thread in others:
        thread.join()
    return answers


def _ask(
    partitions: Partitions, call: Callable[[CouponList], T]
) -> tuple[list[T], list[int]]:
    found, missing = [], []
    for installation in partitions:
        try:
            found.append(call(CouponList(installation)))
        except Unavailable:
            missing.append(installation.partition)
            if len(missing) == partitions.config.partitions:
                raise
    return found, missing
