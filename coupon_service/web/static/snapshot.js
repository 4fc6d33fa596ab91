// How the counters of a coupon are shown, in a list as on its own page.
import {count, moment, t} from "./page.js";

const STATES = {
  scheduled: t("scheduled"), open: t("open"), sold_out: t("sold out"), closed: t("closed"),
  expired: t("expired"), corrupt: t("corrupt data"),
};

/** The texts of a coupon by the names of the fields. */
export function shown(coupon) {
  if (coupon.state === "corrupt") return {couponId: coupon.couponId, stateText: STATES.corrupt};
  const refusals = Object.values(coupon.refusals).reduce((sum, number) => sum + number, 0);
  return {
    couponId: coupon.couponId, stateText: STATES[coupon.state], quantity: count(coupon.quantity),
    issued: count(coupon.issued), pending: count(coupon.pending), refused: count(refusals),
    left: count(coupon.quantity - coupon.requested),
    issuedOf: t("{issued} of {quantity}", {issued: count(coupon.issued), quantity: count(coupon.quantity)}),
    opens: moment(coupon.opensAt), closes: moment(coupon.closesAt), expires: moment(coupon.expiresAt),
    window: windowOf(coupon),
  };
}

function windowOf({opensAt, closesAt}) {
  const parts = [
    opensAt && t("from {time}", {time: moment(opensAt)}), closesAt && t("until {time}", {time: moment(closesAt)}),
  ];
  return parts.filter(Boolean).join(" ") || "–";
}

/** Draw what is issued and pending of a coupon, and colour its state. */
export function draw(element, coupon) {
  const state = element.querySelector(".state");
  if (state) state.dataset.state = coupon.state;
  const [issued, pending] = element.querySelectorAll(".bar rect");
  if (coupon.state === "corrupt") return;
  const width = number => 100 * number / coupon.quantity;
  issued.setAttribute("width", width(coupon.issued));
  pending.setAttribute("x", width(coupon.issued));
  pending.setAttribute("width", width(coupon.pending));
  issued.parentElement.setAttribute("aria-label", t("{issued} issued, {pending} pending, {left} left", shown(coupon)));
}
