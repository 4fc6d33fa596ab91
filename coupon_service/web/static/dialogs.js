// The dialogs: one that asks before something is changed, one that registers and changes a coupon.
import {byId, call, fill, t} from "./page.js";

/** What a refusal means is said at the field that it is about. */
const FIELD_OF = {quantity_too_low: "quantity", being_removed: "couponId", invalid_window: "closesAt"};
const INSTANTS = ["opensAt", "closesAt", "expiresAt"];

/** Show a dialog until `act` succeeds, or the user goes back; `failed` shows what was refused. */
function ask(dialog, act, failed) {
  const form = dialog.querySelector("form");
  form.onsubmit = async event => {
    event.preventDefault();
    event.submitter.disabled = true;
    try {
      await act();
      dialog.close();
    } catch (error) {
      failed(error);
    } finally {
      event.submitter.disabled = false;
    }
  };
  dialog.querySelector(".back").onclick = () => dialog.close();
  dialog.showModal();
}

/** Ask with a title, a text that says what will happen, and the word on the button; then act. */
export function confirm(title, text, action, act) {
  const dialog = byId("confirm");
  fill(dialog, {title, text, action, problem: ""});
  ask(dialog, act, error => fill(dialog, {problem: error.message}));
}

const pad = number => String(number).padStart(2, "0");

/** An instant as a field of the viewer's zone has it. */
function local(instant) {
  if (!instant) return "";
  const at = new Date(instant);
  return `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}T${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
}

/** Register a coupon, or change `coupon`; then `registered` is called with the answer. */
export function register(coupon, registered) {
  const dialog = byId("register"), form = dialog.querySelector("form");
  for (const input of form.querySelectorAll("input")) {
    const value = coupon?.[input.name] ?? "";
    input.defaultValue = input.value = INSTANTS.includes(input.name) ? local(value) : value;
  }
  explain(form, {});
  ask(dialog, async () => registered(await send(form, coupon)), error => explain(form, problems(error)));
  form.elements[coupon ? "quantity" : "couponId"].focus();
}

async function send(form, coupon) {
  const {couponId, quantity} = form.elements;
  const body = {couponId: couponId.value, quantity: quantity.value === "" ? null : Number(quantity.value)};
  for (const name of INSTANTS) {
    const {value, defaultValue} = form.elements[name];
    // What was not touched stays as it is, to the millisecond.
    if (value !== defaultValue) body[name] = value ? new Date(value).toISOString() : null;
  }
  if (!coupon) {
    const path = `/api/dashboard?limit=1&prefix=${encodeURIComponent(body.couponId)}`;
    // What is wrong with the id is said by the registration.
    const {coupons} = await call("GET", path).catch(() => ({coupons: []}));
    if (coupons[0]?.couponId === body.couponId) {
      throw Object.assign(new Error(), {errors: {couponId: [t("This coupon exists: change it on its own page.")]}});
    }
  }
  return call("POST", "/api/coupons/register", body);
}

/** The texts of a refusal by field; what is about none is under `problem`. */
function problems(error) {
  if (error.errors) return Object.fromEntries(Object.entries(error.errors).map(([name, its]) => [name, String(its)]));
  return {[FIELD_OF[error.code] ?? "problem"]: error.message};
}

function explain(form, texts) {
  const inputs = [...form.querySelectorAll("input")];
  for (const input of inputs) {
    byId(`problem-${input.name}`).textContent = texts[input.name] ?? "";
    input.setAttribute("aria-invalid", input.name in texts);
  }
  const elsewhere = Object.keys(texts).filter(name => !inputs.some(input => input.name === name));
  fill(form, {problem: elsewhere.map(name => texts[name]).join(" ")});
  inputs.find(input => input.name in texts)?.focus();
}
