// One coupon: its numbers, its picture, its users, and what can be done with it.
import {byId, call, count, couponPath, done, duration, fill, list, moment, poll, t} from "./page.js";
import {confirm, register} from "./dialogs.js";
import {picture} from "./picture.js";
import {draw, shown} from "./snapshot.js";

const id = byId("coupon").dataset.id;
let coupon = null;

const pollNow = poll(() => `/api/dashboard/coupons/${encodeURIComponent(id)}`, show);

function show(data) {
  ({coupon} = data);
  const {secondsToDecision: waits, issuedPerSecond: rate} = coupon.recent;
  const refusals = Object.entries(coupon.refusals).map(([reason, number]) => [reason, count(number)]);
  const texts = {
    ...shown(coupon), ...Object.fromEntries(refusals), p50: duration(waits?.p50),
    p99: duration(waits?.p99), rate: count(rate && Math.round(10 * rate) / 10),
  };
  for (const part of ["coupon", "numbers", "more"]) fill(byId(part), texts);
  draw(byId("coupon").parentElement, coupon);
  byId("summary").textContent = picture(byId("picture"), data.series, coupon.quantity);
  list(byId("issuances"), data.issuances, issuance => issuance.requestId, "row", (row, issuance) =>
    fill(row, {...issuance, issued: moment(issuance.issuedAt)}));
  for (const button of ["open-register", "close", "delete"]) byId(button).disabled = false;
  byId("close").disabled = ["closed", "expired"].includes(coupon.state);
}

byId("open-register").onclick = () => register(coupon, () => {
  done(t("{coupon} is changed.", {coupon: id}));
  pollNow();
});

byId("close").onclick = () => confirm(
  t("Close {coupon}?", {coupon: id}),
  t("Nobody can request it any more. What was accepted is still issued. A later end of the window opens it again."),
  t("Close now"),
  async () => {
    await call("POST", couponPath(id, "close"));
    done(t("{coupon} is closed.", {coupon: id}));
    pollNow();
  },
);

byId("delete").onclick = () => confirm(
  t("Delete {coupon}?", {coupon: id}),
  t("{issued} issuances and {pending} pending requests are removed, and cannot be brought back. The log keeps what happened.", shown(coupon)),
  t("Delete"),
  async () => {
    await call("DELETE", couponPath(id));
    location.assign("?");
  },
);

const STATUS = {issued: t("issued"), pending: t("pending"), expired: t("expired")};

async function lookUp() {
  const user = byId("user-id").value;
  let text, cancellable = false;
  try {
    const {status, issuedAt} = await call("GET", couponPath(id, "users", user));
    text = [user, STATUS[status], ...(issuedAt ? [moment(issuedAt)] : [])].join(" · ");
    cancellable = status !== "expired";
  } catch (error) {
    text = error.status === 404 ? t("{user} has no such coupon.", {user}) : error.message;
  }
  fill(byId("found"), {text});
  byId("found").hidden = false;
  byId("cancel").hidden = !cancellable;
  byId("cancel").onclick = () => confirm(
    t("Cancel {coupon} of {user}?", {coupon: id, user}),
    t("The coupon goes back to the stock, and somebody else can get it."),
    t("Cancel the coupon"),
    async () => {
      await call("DELETE", couponPath(id, "users", user));
      done(t("{coupon} of {user} is cancelled.", {coupon: id, user}));
      await lookUp();
      pollNow();
    },
  );
}

byId("user").onsubmit = event => {
  event.preventDefault();
  lookUp();
};
