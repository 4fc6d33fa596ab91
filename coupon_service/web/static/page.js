// What every page shares: the API, texts, numbers and instants, filling in, polling.
const root = document.documentElement.dataset.root;
const language = document.documentElement.lang;
const texts = JSON.parse(document.getElementById("texts").textContent);
const TIMEOUT = 5000, VISIBLE = 2000, HIDDEN = 10000, LONGEST = 30000, STALE = 10000, SAID = 8000;  // ms

export const byId = id => document.getElementById(id);

/** The text in the language of the page, `{name}` replaced by values. */
export function t(text, values = {}) {
  return (texts[text] ?? text).replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

const counts = new Intl.NumberFormat(language);
const moments = new Intl.DateTimeFormat(language, {dateStyle: "medium", timeStyle: "medium"});
const times = new Intl.DateTimeFormat(language, {timeStyle: "medium"});
const zone = moments.resolvedOptions().timeZone;
byId("zone").textContent = zone;

export const count = number => number == null ? "–" : counts.format(number);
export const moment = instant => instant ? moments.format(new Date(instant)) : "–";
export const time = instant => times.format(new Date(instant));

/** A duration given in seconds. */
export function duration(number) {
  if (number == null) return "–";
  return number < 1 ? t("{count} ms", {count: count(Math.round(1000 * number))}) : t("{count} s", {count: count(Math.round(10 * number) / 10)});
}

/** Set the text of what `element` has for each of the values by name. */
export function fill(element, values) {
  for (const field of element.querySelectorAll("[data-field]")) {
    const value = values[field.dataset.field];
    if (value !== undefined && field.textContent !== String(value)) field.textContent = value;
  }
}

/** Make the children of `parent` those of the items; what is there stays, and with it the focus. */
export function list(parent, items, key, template, update) {
  const there = new Map([...parent.children].map(child => [child.dataset.key, child]));
  const keys = new Set(items.map(key));
  there.forEach((child, its) => keys.has(its) || child.remove());
  items.forEach((item, at) => {
    const child = there.get(key(item)) ?? byId(template).content.firstElementChild.cloneNode(true);
    child.dataset.key = key(item);
    if (parent.children[at] !== child) parent.insertBefore(child, parent.children[at] ?? null);
    update(child, item);
  });
}

/** Call the API; raises an Error with the members of the problem, if it is answered with one. */
export async function call(method, path, body) {
  const answer = await fetch(new URL(root + path, location.origin), {
    method, signal: AbortSignal.timeout(TIMEOUT), body: body && JSON.stringify(body),
    headers: body ? {"Content-Type": "application/json"} : {},
  });
  const said = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(said.detail), said);
  return said;
}

export const couponPath = (id, ...rest) =>
  ["/api/coupons", id, ...rest].map((part, at) => at ? encodeURIComponent(part) : part).join("/");

let said;

/** Say for some seconds what was done, in words that a screen reader reads too. */
export function done(text) {
  clearTimeout(said);
  byId("done").textContent = text;
  said = setTimeout(() => byId("done").replaceChildren(), SAID);
}

function connection(state, text) {
  const element = byId("connection");
  element.dataset.state = state;
  if (element.textContent !== text) element.textContent = text;
}

function showQueue(queue) {
  fill(byId("queue"), {
    workers: count(queue.workers), backlog: count(queue.backlog),
    oldest: queue.backlog ? duration(queue.oldestSeconds) : "–",
  });
  const alarms = [];
  if (queue.workers === 0) alarms.push(t("No worker runs: requests are accepted and wait."));
  if (queue.missingPartitions) {
    alarms.push(t("Partitions that cannot be used: {list}", {list: queue.missingPartitions.join(", ")}));
  }
  const alarm = byId("alarm");
  if (alarm.textContent !== alarms.join(" ")) alarm.textContent = alarms.join(" ");
  alarm.hidden = !alarms.length;
}

/** Poll `path()` and show what it returns; returns a function that polls at once. */
export function poll(path, show) {
  let timer, latest = 0, failures = 0, shownAt = null;

  function lost(error) {
    const since = shownAt === null ? "" : ` ${t("Last seen {time}.", {time: time(shownAt)})}`;
    if (error.status === 401) connection("lost", t("The password is not valid any more: reload the page."));
    else if (error.status === 404) connection("lost", t("This coupon is not registered (any more)."));
    else if (error.status) connection("lost", `${t("Redis cannot be used.")}${since}`);
    else connection("lost", `${t("The server does not answer.")}${since}`);
  }

  async function once() {
    clearTimeout(timer);
    const ticket = ++latest;
    const [data, error] = await call("GET", path()).then(its => [its], problem => [null, problem]);
    if (ticket !== latest) return;
    failures = error ? failures + 1 : 0;
    const pause = document.hidden ? HIDDEN : VISIBLE;
    timer = setTimeout(once, failures ? Math.min(pause * 2 ** (failures - 1), LONGEST) : pause);
    document.body.classList.toggle("stale", failures > 0);
    if (error) {
      lost(error);
      return;
    }
    shownAt = Date.now();
    showQueue(data.queue);
    show(data);
    byId("as-of").textContent = t("As of {time}", {time: time(shownAt)});
    connection("live", t("Live"));
  }

  // A browser may hold back the timers of a page that is not seen.
  setInterval(() => {
    if (shownAt !== null && Date.now() - shownAt > (document.hidden ? HIDDEN : 0) + STALE) {
      document.body.classList.add("stale");
    }
  }, 1000);
  document.addEventListener("visibilitychange", () => document.hidden || once());
  once();
  return once;
}
