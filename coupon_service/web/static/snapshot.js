// How the counters of a coupon are shown, in a list as on its own page.
import {count, fill, moment, t} from "./page.js";

const STATES = {
  scheduled: t("scheduled"), open: t("open"), sold_out: t("sold out"), closed: t("closed"),
  expired: t("expired"), corrupt: t("corrupt data"),
};

/** The texts of a coupon by the names of the fields; nothing is known of one that is corrupt. */
export function shown({
  couponId, state, quantity, requested, issued, pending, opensAt, closesAt, expiresAt, refusals,
}) {
  const texts = {quantity: count(quantity), issued: count(issued), pending: count(pending)};
  const refused = refusals && Object.values(refusals).reduce((sum, number) => sum + number, 0);
  const window = [
    opensAt && t("from {time}", {time: moment(opensAt)}),
    closesAt && t("until {time}", {time: moment(closesAt)}),
  ];
  return {
    ...texts, couponId, stateText: STATES[state], refused: count(refused),
    left: count(refusals && quantity - requested),
    issuedOf: refusals ? t("{issued} of {quantity}", texts) : "–",
    opens: moment(opensAt), closes: moment(closesAt), expires: moment(expiresAt),
    window: window.filter(Boolean).join(" ") || "–",
  };
}

/** Fill in a coupon and other texts, draw what is issued and pending of it, colour its state. */
export function show(element, coupon, others) {
  const {state, quantity, issued = 0, pending = 0} = coupon, texts = shown(coupon);
  const bar = element.querySelector(".bar"), percent = number => 100 * number / (quantity ?? 1);
  fill(element, {...texts, ...others});
  bar.setAttribute("aria-label", t("{issued} issued, {pending} pending, {left} left", texts));
  bar.children[0].setAttribute("width", percent(issued));
  bar.children[1].setAttribute("x", percent(issued));
  bar.children[1].setAttribute("width", percent(pending));
  for (const its of element.querySelectorAll(".state")) its.dataset.state = state;
}
