// One coupon: its numbers, its picture, its users, and what can be done with it.
import {
  byId, call, count, couponPath, done, duration, fill, list, moment, poll, t,
} from "./page.js";
import {askToDelete, confirm, register} from "./dialogs.js";
import {picture} from "./picture.js";
import {show as showTexts} from "./snapshot.js";

const id = byId("coupon").dataset.id, its = {coupon: id};
let coupon = null;

poll(() => `/api/dashboard/coupons/${encodeURIComponent(id)}`, show, error =>
  error.code === "corrupt_data" && showCoupon({couponId: id, state: "corrupt"}));

/** Show what is known of the coupon: of one that is corrupt, only that it is. */
function showCoupon(read) {
  coupon = read;
  const {secondsToDecision: waits, issuedPerSecond: rate} = coupon.recent ?? {};
  const refusals = Object.entries(coupon.refusals ?? {});
  showTexts(byId("main"), coupon, {
    ...Object.fromEntries(refusals.map(([name, its]) => [name, count(its)])),
    p50: duration(waits?.p50), p99: duration(waits?.p99),
    rate: count(rate && Math.round(10 * rate) / 10),
  });
  byId("delete").disabled = false;
  byId("open-register").disabled = coupon.state === "corrupt";
  byId("close").disabled = ["closed", "expired", "corrupt"].includes(coupon.state);
}

function show({coupon, series, issuances}) {
  showCoupon(coupon);
  byId("summary").textContent = picture(byId("picture"), series, coupon.quantity);
  list("issuances", issuances, issuance => issuance.userId, (row, issuance) =>
    fill(row, {...issuance, issued: moment(issuance.issuedAt)}));
}

byId("open-register").onclick = () =>
  register(() => coupon, () => done(t("{coupon} is changed.", its)));

byId("close").onclick = () => confirm(
  t("Close {coupon}?", its),
  t("Nobody can request it any more. What was accepted is still issued. "
    + "A later end of the window opens it again."),
  t("Close now"),
  ["POST", couponPath(id, "close")], () => done(t("{coupon} is closed.", its)),
);

byId("delete").onclick = () => askToDelete(coupon, () => location.assign("?"));

const STATUS = {issued: t("issued"), pending: t("pending"), expired: t("expired")};

/** Show what the user has whose id is in the field. */
async function lookUp() {
  const user = byId("user-id").value;
  let text, status, request;
  try {
    const found = await call("GET", couponPath(id, "users", user));
    ({status, requestId: request} = found);
    text = `${user} · ${STATUS[status]} · ${moment(found.issuedAt)} · ${request}`;
  } catch (error) {
    text = error.status === 404 ? t("{user} has no such coupon.", {user}) : error.message;
  }
  fill(byId("found"), {text});
  byId("found").hidden = false;
  byId("cancel").hidden = !["issued", "pending"].includes(status);
  byId("cancel").onclick = () => confirm(
    t("Cancel {coupon} of {user}?", {coupon: id, user}),
    t("The coupon of request {request} goes back to the stock, and somebody else can get it.",
      {request}),
    t("Cancel the coupon"),
    // A repeated click means the same request, not the next one of the user.
    ["DELETE", `${couponPath(id, "users", user)}?requestId=${encodeURIComponent(request)}`],
    () => lookUp(done(t("{coupon} of {user} is cancelled.", {coupon: id, user}))),
  );
}

byId("user").onsubmit = event => {
  event.preventDefault();
  lookUp();
};
