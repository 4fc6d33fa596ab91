// The picture of a sale: the stock as a line, what was issued in each span of time as bars.
import {count, moment, t, time} from "./page.js";

// Pixels from the left and from the top; the picture is as wide as its place is.
const LEFT = 64, MARGIN = 8, TOP = 14, MIDDLE = 190, GAP = 206, BOTTOM = 272, HEIGHT = 300;
/** Spans of time that the picture has at the least. */
const FEWEST = 10;

function draw(svg, name, attributes, text) {
  const element = svg.appendChild(document.createElementNS("http://www.w3.org/2000/svg", name));
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

/** Numbers beside the picture, where there is little room. */
const brief = new Intl.NumberFormat(document.documentElement.lang, {
  notation: "compact", maximumSignificantDigits: 3,
});

/** Draw the counts of `series`; returns what they show in words. */
export function picture(svg, series, quantity) {
  svg.replaceChildren();
  if (!series) return t("What was counted over time is not readable.");
  const {spanSeconds, counts} = series, right = svg.clientWidth - MARGIN;
  svg.setAttribute("viewBox", `0 0 ${svg.clientWidth} ${HEIGHT}`);
  if (!counts.some(({issued}) => issued)) return t("No issuance was counted yet.");
  const span = 1000 * spanSeconds;
  const rows = counts.map(({at, issued, stock}) => ({at: Date.parse(at), issued, stock}));
  const first = rows[0].at, last = Math.max(rows.at(-1).at + span, first + FEWEST * span);
  const most = Math.max(...rows.map(row => row.stock + Math.max(row.issued, 0)), quantity);
  const fastest = Math.max(...rows.map(row => row.issued), 1);
  const x = at => LEFT + (right - LEFT) * (at - first) / (last - first);
  const y = stock => MIDDLE - (MIDDLE - TOP) * stock / most;

  const perSecond = t("{count}/s", {count: brief.format(fastest / spanSeconds)});
  const axes = [[TOP, brief.format(most)], [MIDDLE, "0"], [GAP, perSecond], [BOTTOM, "0"]];
  for (const [at, text] of axes) {
    draw(svg, "path", {class: "axis", d: `M${LEFT},${at}H${right}`});
    draw(svg, "text", {x: LEFT - 8, y: at + 4, "text-anchor": "end"}, text);
  }
  const steps = rows.map(({at, issued, stock}) =>
    `H${x(at)}V${y(stock + issued)}L${x(at + span)},${y(stock)}`);
  const line = `M${LEFT},${y(rows[0].stock + rows[0].issued)}${steps.join("")}`;
  draw(svg, "path", {class: "area", d: `${line}V${MIDDLE}H${LEFT}Z`});
  draw(svg, "path", {class: "line", d: line});
  for (const row of rows.filter(each => each.issued > 0)) {
    const height = (BOTTOM - GAP) * row.issued / fastest;
    const bar = draw(svg, "rect", {
      class: "rate", x: x(row.at), width: Math.max(x(row.at + span) - x(row.at) - 1, 1),
      y: BOTTOM - height, height,
    });
    const texts = {issued: count(row.issued), left: count(row.stock)};
    draw(bar, "title", {}, `${moment(row.at)} · ${t("{issued} issued, {left} left", texts)}`);
  }
  const label = spanSeconds < 3600 ? time : moment;
  draw(svg, "text", {x: LEFT, y: 292}, label(first));
  draw(svg, "text", {x: right, y: 292, "text-anchor": "end"}, label(last));
  return t("From {first} to {last}: {issued} issued, {left} left, at most {most} per {span}.", {
    first: moment(first), last: moment(rows.at(-1).at + span), left: count(rows.at(-1).stock),
    issued: count(rows.reduce((sum, row) => sum + row.issued, 0)), most: count(fastest),
    span: {1: t("second"), 60: t("minute"), 3600: t("hour")}[spanSeconds],
  });
}
