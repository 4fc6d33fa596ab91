// Redis, workers, dead letters and the ledger.
import {byId, count, done, duration, fill, list, moment, poll, t} from "./page.js";
import {confirm} from "./dialogs.js";

poll(() => "/api/dashboard/system", show);

function show(data) {
  const {warnings, partitions, decisionTimes: times} = data;
  list("warnings", warnings, text => text, (row, text) => fill(row, {text}));
  byId("no-warnings").hidden ||= partitions.some(({usable}) => !usable);
  fill(byId("times"), {p50: duration(times?.p50), p99: duration(times?.p99)});
  list("partitions", partitions, each => String(each.partition), showPartition);
  list("dead", data.deadLetters, each => each.deadLetter, showDeadLetter);
  byId("more-dead").hidden = data.next === null;
  list("ledger", data.ledger, each => `${each.sink} ${each.partition}`, showSink);
}

function showPartition(row, {usable, ...its}) {
  fill(row, {
    partition: its.partition, redis: usable ? t("answers") : t("cannot be used"),
    backlog: count(its.backlog), oldest: duration(its.oldestSeconds),
    workers: its.workers?.join(", ") || "–", deadLetters: count(its.deadLetters),
  });
}

function showSink(row, {sink, partition, cursor, lagSeconds, kind, error}) {
  const problem = kind ? `${kind}: ${error}` : "–";
  fill(row, {sink, partition, cursor, problem, behind: duration(lagSeconds)});
}

function showDeadLetter(row, {deadLetter, deadAt, reason, fields}) {
  const {couponId = "–", userId = "–"} = fields;
  const why = reason === "corrupt_data" ? t("corrupt data") : reason;
  fill(row, {deadLetter, since: moment(deadAt), reason: why, couponId, userId});
  const path = `/api/dead-letters/${encodeURIComponent(deadLetter)}`, its = {name: deadLetter};
  row.querySelector(".retry").onclick = () => confirm(
    t("Retry {name}?", its),
    t("Its request goes to the workers again. Without the cause repaired it comes back here."),
    t("Retry"), ["POST", `${path}/retry`], () => done(t("{name} is decided again.", its)),
  );
  row.querySelector(".discard").onclick = () => confirm(
    t("Discard {name}?", its),
    t("A request that is still pending is refused, and its place returns."),
    t("Discard"), ["DELETE", path], () => done(t("{name} is discarded.", its)),
  );
}
