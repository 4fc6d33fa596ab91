// All coupons, in pages; those that are live now first.
import {byId, done, list, poll, pollNow, t} from "./page.js";
import {askToDelete, register} from "./dialogs.js";
import {show as showCoupon} from "./snapshot.js";

let after = "", next = null;

const prefix = () => byId("prefix").value.trim();
/** Whether an id can begin with what is searched for: the API refuses everything else. */
const isPrefix = () => /^[\w.~-]*$/.test(prefix());

poll(() => `/api/dashboard?${new URLSearchParams({
  limit: 20, ...(after && {after}), ...(isPrefix() && prefix() && {prefix: prefix()}),
})}`, show);

function show(data) {
  const live = after || prefix() ? [] : data.live;
  list("live", live, coupon => coupon.couponId, update);
  byId("live-section").hidden = !live.length;
  list("coupons", isPrefix() ? data.coupons : [], coupon => coupon.couponId, update);
  next = isPrefix() ? data.next : null;
  byId("next").disabled = next === null;
  byId("first").disabled = after === "";
  byId("first").parentElement.hidden = next === null && after === "";
}

function update(element, coupon) {
  showCoupon(element, coupon);
  element.querySelector("a").href = `?coupon=${encodeURIComponent(coupon.couponId)}`;
  for (const button of element.querySelectorAll(".delete")) {
    button.hidden = coupon.state !== "corrupt";
    button.onclick = () => askToDelete(coupon, () =>
      done(t("{coupon} is deleted.", {coupon: coupon.couponId})));
  }
}

function goTo(page) {
  after = page;
  pollNow();
}

byId("next").onclick = () => goTo(next);
byId("first").onclick = () => goTo("");
byId("prefix").oninput = () => goTo("");
byId("search").onsubmit = event => event.preventDefault();
byId("open-register").onclick = () =>
  register(() => null, ({couponId: coupon}) => done(t("{coupon} is registered.", {coupon})));
