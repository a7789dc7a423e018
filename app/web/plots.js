// The card's plots, drawn as SVG from its figures. Each also says in words what it shows.

const SVG = "http://www.w3.org/2000/svg";

function draw(tag, attributes, text = "", children = []) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.textContent = text;
  made.append(...children);
  return made;
}

function picture(width, height, label, children, kind = "") {
  return draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label, class: kind }, "", children);
}

// ---- scores against the reference levels --------------------------------------------------------------------

const MARKS = {
  circle: (x, y) => draw("circle", { class: "mark", cx: x, cy: y, r: 5 }),
  square: (x, y) => draw("rect", { class: "mark", x: x - 5, y: y - 5, width: 10, height: 10 }),
  diamond: (x, y) => draw("path", { class: "mark", d: `M${x} ${y - 6}l6 6-6 6-6-6z` }),
  triangle: (x, y) => draw("path", { class: "mark", d: `M${x} ${y - 6}l6 11h-12z` }),
};
const SHAPES = Object.values(MARKS);
const WIDTH = 740;
const LEFT = 305; // room for the longest name
const RIGHT = 675;
const STEP = 44;

// scores: {figure: {value, low, high}}, and whose; references: {level: {figure: value}}; better: figure -> is higher better.
export function scores(measured, references, { words, better, whose }) {
  const levels = Object.keys(references);
  const figures = Object.keys(measured);
  const rows = figures.flatMap((name, index) =>
    row(name, index, measured[name], levels.map((level) => references[level][name]), { words, better }),
  );
  const said = figures.map((name) => `${words(name)} ${measured[name].value.toFixed(3)}`).join(", ");
  return picture(WIDTH, 40 + figures.length * STEP, `Each figure with its interval: ${said}. The table below has all.`, [
    ...key([whose, ...levels]),
    ...rows,
  ]);
}

function key(names) {
  let next = 10;
  const parts = names.flatMap((name, index) => {
    const x = next;
    next += Math.max(115, 30 + 8 * name.length);
    const mark =
      index === 0 ? draw("circle", { class: "point", cx: x, cy: 14, r: 5 }) : SHAPES[(index - 1) % SHAPES.length](x, 14);
    return [mark, draw("text", { x: x + 12, y: 18 }, name)];
  });
  return parts;
}

function row(name, index, score, levels, { words, better }) {
  const y = 60 + index * STEP;
  const ours = [score.low, score.high, score.value];
  const known = levels.filter((level) => typeof level === "number");
  // A level that is many times as far as all others would leave them no room: it is named at the edge instead.
  const nearest = Math.max(...ours, ...[...known].sort((one, other) => one - other).slice(0, -1));
  const far = (level) => level > 3 * nearest;
  const end = Math.max(...ours, ...known.filter((level) => !far(level)));
  const most = better(name) ? Math.max(1, end) : end * 1.05;
  const x = (value) => LEFT + (value / most) * (RIGHT - LEFT);
  const off = known.filter(far);
  const hint = better(name) === undefined ? "" : better(name) ? "higher is better" : "lower is better";
  return [
    draw("text", { class: "value", x: 4, y: y - 1 }, words(name)),
    draw("text", { x: 4, y: y + 14 }, hint),
    draw("line", { class: "axis", x1: LEFT, x2: RIGHT, y1: y, y2: y }),
    draw("line", { class: "interval", x1: x(score.low), x2: x(score.high), y1: y, y2: y }),
    ...levels.flatMap((level, which) =>
      typeof level !== "number" || far(level) ? [] : [SHAPES[which % SHAPES.length](x(level), y)],
    ),
    ...off.map((level) => draw("text", { x: RIGHT, y: y - 9, "text-anchor": "end" }, `${level.toFixed(1)} →`)),
    ...levels.flatMap((level, which) =>
      typeof level === "number" && far(level) ? [SHAPES[which % SHAPES.length](RIGHT, y)] : [],
    ),
    draw("circle", { class: "point", cx: x(score.value), cy: y, r: 5 }),
    draw("text", { class: "value", x: WIDTH - 6, y: y + 4, "text-anchor": "end" }, score.value.toFixed(3)),
  ];
}

// ---- reliability --------------------------------------------------------------------------------------------

// bins: [{low, high, confidence, rated, count}], shares from 0 to 1.
export function reliability(bins) {
  const filled = bins.filter(({ count }) => count > 0);
  const [left, right, top, bottom] = [48, 410, 12, 372];
  const x = (share) => left + share * (right - left);
  const y = (share) => bottom - share * (bottom - top);
  const most = Math.max(...filled.map(({ count }) => count));
  const grid = [0, 0.25, 0.5, 0.75, 1].flatMap((share) => [
    draw("line", { class: "axis", x1: left, x2: right, y1: y(share), y2: y(share) }),
    draw("text", { x: left - 6, y: y(share) + 4, "text-anchor": "end" }, `${100 * share} %`),
    draw("text", { x: x(share), y: bottom + 16, "text-anchor": "middle" }, `${100 * share} %`),
  ]);
  const path = filled.map((bin) => `${x(bin.confidence)},${y(bin.rated)}`).join(" ");
  const said = filled.map((b) => `predicted ${Math.round(100 * b.confidence)} %, rated ${Math.round(100 * b.rated)} %, ${b.count} pictures`);
  return picture(
    430,
    412,
    `Predicted against rated shares: ${said.join("; ")}.`,
    [
      ...grid,
      draw("line", { class: "ideal", x1: x(0), y1: y(0), x2: x(1), y2: y(1) }),
      draw("polyline", { class: "line", points: path }),
      ...filled.map((bin) =>
        draw("circle", { class: "point", cx: x(bin.confidence), cy: y(bin.rated), r: 3 + 6 * Math.sqrt(bin.count / most) }, "", [
          draw("title", {}, `${bin.count} pictures: predicted ${bin.confidence.toFixed(2)}, rated ${bin.rated.toFixed(2)}`),
        ]),
      ),
      draw("text", { x: (left + right) / 2, y: bottom + 34, "text-anchor": "middle" }, "predicted for the dominant emotion"),
      draw("text", { x: left + 8, y: top + 14 }, "share of raters who felt it ↑"),
    ],
    "square",
  );
}

// ---- confusion ----------------------------------------------------------------------------------------------

// A count is a mean where there were repeats.
const told = (count) => (Number.isInteger(count) ? String(count) : count.toFixed(1));

// labels: of rows and columns; counts[rated][predicted].
export function confusion({ labels, counts }) {
  const longest = 7.5 * Math.max(...labels.map((label) => label.length)); // pixels, about
  const [side, left, top] = [Math.max(64, longest + 8), Math.max(92, longest + 16), 56];
  const cells = counts.flatMap((row, r) => {
    const total = row.reduce((sum, count) => sum + count, 0);
    return row.flatMap((count, c) => {
      const share = total ? count / total : 0;
      const [x, y] = [left + c * side, top + r * side];
      return [
        draw("rect", { class: "axis", x, y, width: side, height: side, fill: "none" }),
        draw("rect", { class: "cell", x: x + 1, y: y + 1, width: side - 2, height: side - 2, "fill-opacity": (0.5 * share).toFixed(3) }), // its number is read on it
        draw("text", { class: "off", x: x + side / 2, y: y + side / 2 + 4, "text-anchor": "middle" }, told(count)),
      ];
    });
  });
  const rows = labels.map((label, r) =>
    draw("text", { x: left - 8, y: top + (r + 0.5) * side + 4, "text-anchor": "end" }, label),
  );
  const columns = labels.map((label, c) =>
    draw("text", { x: left + (c + 0.5) * side, y: top - 8, "text-anchor": "middle" }, label),
  );
  const said = labels.map((label, r) => `rated ${label}: ${labels.map((name, c) => `${told(counts[r][c])} ${name}`).join(", ")}`);
  const [width, height] = [left + labels.length * side + 10, top + labels.length * side + 10];
  const parts = [
    draw("text", { x: left, y: 20, class: "title" }, "predicted →"),
    draw("text", { x: 4, y: top - 8, class: "title" }, "rated ↓"),
    ...columns,
    ...rows,
    ...cells,
  ];
  const drawn = picture(width, height, `Rated against predicted emotions. ${said.join("; ")}.`, parts, "natural");
  drawn.setAttribute("width", width); // its size is that of its numbers, and not of the window
  drawn.setAttribute("height", height);
  return drawn;
}
