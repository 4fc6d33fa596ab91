// The dialogs: one that asks before something is changed, one that registers and changes a coupon.
import {byId, call, couponPath, fill, t} from "./page.js";
import {shown} from "./snapshot.js";

/** What a refusal means is said at the field that it is about. */
const FIELD_OF = {
  quantity_too_low: "quantity", being_removed: "couponId", invalid_window: "closesAt",
};
const INSTANTS = ["opensAt", "closesAt", "expiresAt"];

/** Show a dialog until `act` succeeds, or the user goes back; `failed` shows what was refused. */
function ask(dialog, act, failed) {
  const form = dialog.querySelector("form"), buttons = [...form.querySelectorAll("button")];
  const disable = disabled => buttons.forEach(button => Object.assign(button, {disabled}));
  form.onsubmit = async event => {
    event.preventDefault();
    disable(true);
    const error = await act().then(() => null, problem => problem);
    disable(false);
    if (!error) return dialog.close();
    event.submitter.focus();  // which was lost when it was disabled
    failed(error);
  };
  // What is under way has to be seen to its end.
  dialog.oncancel = () => !buttons[0].disabled;
  form.querySelector(".back").onclick = () => dialog.close();
  dialog.showModal();
}

/** Ask with a title, a text that says what will happen, and the word on the button; then make the
 *  call, and `called` afterwards. */
export function confirm(title, text, action, [method, path], called) {
  const dialog = byId("confirm");
  fill(dialog, {title, text, action, problem: ""});
  ask(dialog, () => call(method, path).then(called), ({message}) => fill(dialog, {problem: message}));
}

/** Ask whether to delete a coupon; `deleted` is called afterwards. */
export const askToDelete = (coupon, deleted) => confirm(
  t("Delete {coupon}?", {coupon: coupon.couponId}),
  coupon.state === "corrupt"
    ? t("Its data cannot be read. All of it is removed, and cannot be brought back. "
        + "The log keeps what happened.")
    : t("{issued} issuances and {pending} pending requests are removed, and cannot be brought back. "
        + "The log keeps what happened.", shown(coupon)),
  t("Delete"), ["DELETE", couponPath(coupon.couponId)], deleted,
);

/** An instant as a field of the viewer's zone has it. */
function local(instant) {
  if (!instant) return "";
  const at = new Date(instant);
  return new Date(at - 60000 * at.getTimezoneOffset()).toISOString().slice(0, -5);
}

/** Register a coupon, or change that which `latest()` returns; then `registered` is called. */
export function register(latest, registered) {
  const dialog = byId("register"), form = dialog.querySelector("form"), coupon = latest();
  for (const input of form.querySelectorAll("input")) {
    const value = coupon?.[input.name] ?? "";
    input.value = INSTANTS.includes(input.name) ? local(value) : value;
    input.defaultValue = input.value;  // as the browser writes it, which leaves out seconds of 0
  }
  explain(form, {});
  const act = async () => registered(await send(form, latest()));
  ask(dialog, act, error => explain(form, problems(error)));
  form.elements[coupon ? "quantity" : "couponId"].focus();
}

const refusal = errors => Object.assign(new Error(), {errors});

async function send(form, coupon) {
  // Such a field has no value; everything else is for the API to refuse.
  const wrong = [...form.querySelectorAll("input")].filter(({validity}) => validity.badInput);
  if (wrong.length) {
    const text = t("The value is incomplete or not valid.");
    throw refusal(Object.fromEntries(wrong.map(({name}) => [name, text])));
  }
  const {couponId: {value: couponId, validity}, quantity} = form.elements;
  const body = {couponId, quantity: Number(quantity.value)};
  // What was not touched stays as it is by now, an instant to the millisecond.
  if (coupon && quantity.value === quantity.defaultValue) body.quantity = coupon.quantity;
  for (const name of INSTANTS) {
    const {value, defaultValue} = form.elements[name];
    if (value !== defaultValue) body[name] = value ? new Date(value).toISOString() : null;
  }
  if (!coupon && validity.valid) {
    const path = `/api/dashboard?limit=1&prefix=${encodeURIComponent(couponId)}`;
    const {coupons} = await call("GET", path);
    if (coupons[0]?.couponId === couponId) {
      throw refusal({couponId: t("This coupon exists: change it on its own page.")});
    }
  }
  return call("POST", "/api/coupons/register", body);
}

/** The texts of a refusal by field, one or a list; what is about none is under `problem`. */
const problems = ({errors, code, message}) => errors ?? {[FIELD_OF[code] ?? "problem"]: message};

function explain(form, texts) {
  const inputs = [...form.querySelectorAll("input")];
  const said = name => [texts[name] ?? []].flat().map(text => t(text)).join(" ");
  for (const input of inputs) {
    byId(`problem-${input.name}`).textContent = said(input.name);
    input.setAttribute("aria-invalid", input.name in texts);
  }
  const elsewhere = Object.keys(texts).filter(name => !form.elements[name]);
  fill(form, {problem: elsewhere.map(said).join(" ")});
  inputs.find(input => input.name in texts)?.focus();
}
