// What every page shares: the API, texts, numbers and instants, filling in, polling.
const root = document.documentElement.dataset.root;
const language = document.documentElement.lang;
const texts = JSON.parse(document.getElementById("texts").textContent);
const TIMEOUT = 5000, VISIBLE = 2000, HIDDEN = 10000, LONGEST = 30000, SAID = 8000;  // ms

export const byId = id => document.getElementById(id);

/** The text in the language of the page, `{name}` replaced by values. */
export function t(text, values = {}) {
  return (texts[text] ?? text).replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

const counts = new Intl.NumberFormat(language);
const moments = new Intl.DateTimeFormat(language, {dateStyle: "medium", timeStyle: "medium"});
const times = new Intl.DateTimeFormat(language, {timeStyle: "medium"});
byId("zone").textContent = moments.resolvedOptions().timeZone;

export const count = number => number == null ? "–" : counts.format(number);
export const moment = instant => instant ? moments.format(new Date(instant)) : "–";
export const time = instant => times.format(new Date(instant));

/** A duration given in seconds. */
export function duration(number) {
  if (number == null) return "–";
  return number < 1
    ? t("{count} ms", {count: count(Math.round(1000 * number))})
    : t("{count} s", {count: count(Math.round(10 * number) / 10)});
}

/** Change a text if it is another one: a screen reader reads out what is changed. */
function say(element, text) {
  if (element.textContent !== String(text)) element.textContent = text;
}

/** Set the text of what `element` has for each of the values by name. */
export function fill(element, values) {
  for (const field of element.querySelectorAll("[data-field]")) {
    const value = values[field.dataset.field];
    if (value !== undefined) say(field, value);
  }
}

/** Make the children of an element those of the items, by keys that differ; what is there stays.
 *  Where there is none, what says so is shown instead of the table. */
export function list(id, items, key, update) {
  const parent = byId(id), template = byId(`${id}-row`).content.firstElementChild;
  const there = new Map([...parent.children].map(child => [child.dataset.key, child]));
  const keys = new Set(items.map(key)), focused = document.activeElement;
  there.forEach((child, its) => keys.has(its) || child.remove());
  items.forEach((item, at) => {
    const child = there.get(key(item)) ?? template.cloneNode(true);
    child.dataset.key = key(item);
    if (parent.children[at] !== child) parent.insertBefore(child, parent.children[at] ?? null);
    update(child, item);
  });
  const none = byId(`no-${id}`), table = none && parent.closest(".scroll");
  if (none) none.hidden = items.length > 0;
  if (table) table.hidden = items.length === 0;
  // A child that is moved loses the focus.
  if (parent.contains(focused)) focused.focus({preventScroll: true});
}

/** Call the API; raises an Error with the members of the problem, if it is answered with one. */
export async function call(method, path, body) {
  const answer = await fetch(new URL(root + path, location.origin), {
    method, signal: AbortSignal.timeout(TIMEOUT), body: body && JSON.stringify(body),
    headers: body ? {"Content-Type": "application/json"} : {},
  }).catch(() => null);
  const said = await answer?.json().catch(() => null);  // null also for the page of a proxy
  if (!said) throw new Error(t("The server does not answer."));
  if (!answer.ok) throw Object.assign(new Error(texts[said.code] ?? said.detail), said);
  return said;
}

export const couponPath = (id, ...rest) =>
  ["/api/coupons", ...[id, ...rest].map(encodeURIComponent)].join("/");

/** Polls at once; see `poll`. */
export let pollNow;
let said;

/** Say for some seconds what was done, in words that a screen reader reads too, and show it. */
export function done(text) {
  clearTimeout(said);
  byId("done").textContent = text;
  said = setTimeout(() => byId("done").replaceChildren(), SAID);
  pollNow();
}

function showQueue({workers, backlog, oldestSeconds, missingPartitions}) {
  fill(byId("queue"), {
    workers: count(workers), backlog: count(backlog),
    oldest: backlog ? duration(oldestSeconds) : "–",
  });
  const list = missingPartitions?.join(", ");
  const alarms = [
    workers === 0 && t("No worker runs: requests are accepted and wait."),
    list && t("Partitions that cannot be used: {list}", {list}),
  ].filter(Boolean);
  say(byId("alarm"), alarms.join(" "));
  byId("alarm").hidden = !alarms.length;
}

const LOST = {
  401: t("The password is not valid any more: reload the page."),
  404: t("This coupon is not registered (any more)."), 503: t("Redis cannot be used."),
};

/** Poll `path()` and show what it returns; `failed` is called with the error of a poll. */
export function poll(path, show, failed = () => null) {
  let timer, latest = 0, failures = 0, shownAt = null;

  pollNow = async () => {
    clearTimeout(timer);
    const ticket = ++latest;
    const [data, problem] = await call("GET", path()).then(its => [its], error => [null, error]);
    if (ticket !== latest) return;
    try {
      if (problem) throw problem;
      showQueue(data.queue);
      show(data);
      [shownAt, failures] = [Date.now(), 0];
      byId("as-of").textContent = t("As of {time}", {time: time(shownAt)});
      say(byId("connection"), t("Live"));
    } catch (error) {
      failures += 1;
      const since = shownAt ? ` ${t("Last seen {time}.", {time: time(shownAt)})}` : "";
      say(byId("connection"), (LOST[error.status] ?? error.message) + since);
      failed(error);
    }
    const pause = document.hidden ? HIDDEN : VISIBLE;
    timer = setTimeout(pollNow, failures ? Math.min(pause * 2 ** (failures - 1), LONGEST) : pause);
    byId("connection").dataset.state = failures ? "lost" : "live";
    document.body.classList.toggle("stale", failures > 0);
    // A change of a coupon that was deleted would register it again.
    byId("main").inert = problem?.status === 404;
  };

  document.addEventListener("visibilitychange", () => document.hidden || pollNow());
  pollNow();
}
