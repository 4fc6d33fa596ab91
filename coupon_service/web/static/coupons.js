// All coupons, in pages; those that are live now first.
import {byId, done, fill, list, poll, t} from "./page.js";
import {register} from "./dialogs.js";
import {draw, shown} from "./snapshot.js";

/** Coupons that are shown as live at the most. */
const LIVE = 5;

let after = "", next = null;

const pollNow = poll(() => `/api/dashboard?${new URLSearchParams({
  limit: 20, ...(after && {after}), ...(byId("prefix").value && {prefix: byId("prefix").value}),
})}`, show);

function show(data) {
  const live = after || byId("prefix").value ? [] : liveOf(data);
  list(byId("live"), live, coupon => coupon.couponId, "card", update);
  byId("live-section").hidden = !live.length;
  list(byId("coupons"), data.coupons, coupon => coupon.couponId, "row", update);
  byId("none").hidden = data.coupons.length > 0;
  next = data.next;
  byId("next").disabled = next === null;
  byId("first").disabled = after === "";
  byId("first").parentElement.hidden = next === null && after === "";
}

/** Those that were active last, then others that are open. */
function liveOf({live, coupons}) {
  const others = coupons.filter(({state, couponId}) =>
    state === "open" && !live.some(coupon => coupon.couponId === couponId));
  return [...live, ...others].slice(0, LIVE);
}

function update(element, coupon) {
  fill(element, {...{issuedOf: "–", left: "–", refused: "–", window: "–"}, ...shown(coupon)});
  draw(element, coupon);
  element.querySelector("a").href = `?coupon=${encodeURIComponent(coupon.couponId)}`;
}

function goTo(page) {
  after = page;
  pollNow();
}

byId("next").onclick = () => goTo(next);
byId("first").onclick = () => goTo("");
byId("prefix").oninput = () => goTo("");
byId("search").onsubmit = event => event.preventDefault();
byId("open-register").onclick = () => register(null, coupon => {
  done(t("{coupon} is registered.", {coupon: coupon.couponId}));
  pollNow();
});
