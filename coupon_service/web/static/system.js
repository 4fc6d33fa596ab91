// Redis, workers, dead letters and the ledger.
import {byId, call, count, done, duration, fill, list, moment, poll, t} from "./page.js";
import {confirm} from "./dialogs.js";

const pollNow = poll(() => "/api/dashboard/system", show);

function show(data) {
  list(byId("warnings"), data.warnings, text => text, "warning-row", (row, text) => fill(row, {text}));
  byId("no-warnings").hidden = data.warnings.length > 0;
  fill(byId("times"), {p50: duration(data.decisionTimes?.p50), p99: duration(data.decisionTimes?.p99)});
  list(byId("partitions"), data.partitions, each => String(each.partition), "partition-row", showPartition);
  list(byId("dead"), data.deadLetters, each => each.deadLetter, "dead-row", showDeadLetter);
  byId("more-dead").hidden = data.next === null;
  list(byId("ledger"), data.ledger, each => `${each.sink} ${each.partition}`, "ledger-row", showSink);
  for (const name of ["dead", "ledger"]) {
    const isEmpty = !byId(name).children.length;
    byId(name).closest(".scroll").hidden = isEmpty;
    byId(`no-${name}`).hidden = !isEmpty;
  }
}

function showPartition(row, {partition, usable, backlog, oldestSeconds, workers, deadLetters}) {
  fill(row, {
    partition, redis: usable ? t("answers") : t("cannot be used"), backlog: count(backlog),
    oldest: duration(oldestSeconds), workers: workers?.join(", ") || "–", deadLetters: count(deadLetters),
  });
}

function showSink(row, {sink, partition, cursor, lagSeconds, kind, error}) {
  fill(row, {sink, partition, cursor, behind: duration(lagSeconds), problem: kind ? `${kind}: ${error}` : "–"});
}

function showDeadLetter(row, {deadLetter, deadAt, reason, fields}) {
  const {couponId = "–", userId = "–"} = fields;
  fill(row, {deadLetter, since: moment(deadAt), reason, couponId, userId});
  const path = `/api/dead-letters/${encodeURIComponent(deadLetter)}`;
  row.querySelector(".retry").onclick = () => confirm(
    t("Retry {name}?", {name: deadLetter}),
    t("Its request goes to the workers again. Without the cause repaired it comes back here."),
    t("Retry"),
    () => act("POST", `${path}/retry`, t("{name} is decided again.", {name: deadLetter})),
  );
  row.querySelector(".discard").onclick = () => confirm(
    t("Discard {name}?", {name: deadLetter}),
    t("A request that is still pending is refused, and its place returns."),
    t("Discard"),
    () => act("DELETE", path, t("{name} is discarded.", {name: deadLetter})),
  );
}

async function act(method, path, text) {
  await call(method, path);
  done(text);
  pollNow();
}
