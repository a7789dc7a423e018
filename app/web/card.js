// The model card: what GET /v1/model says, as text, tables and plots.

import { confusion, reliability, scores } from "./plots.js";
import { Refusal, asFile, ask, receive } from "./service.js";

const at = (id) => document.getElementById(id);

// What each figure of a card means, and whether more of it is better.
export const MEANING = {
  accuracy: ["dominant emotion right", true],
  accuracy_when_clear: ["the same, where more than half of the raters agreed", true],
  accuracy_when_clear_and_common: ["the same, among the emotions that dominate 40 such pictures or more", true],
  balanced_accuracy: ["mean over the emotions of the share found", true],
  balanced_accuracy_when_clear_and_common: ["the same, on clear pictures of those common emotions", true],
  macro_f1: ["mean over the emotions of F1, which is high when both precision and recall are", true],
  kl: ["KL divergence of the rated from the predicted shares, in nats", false],
  chebyshev: ["largest difference of a share", false],
  clark: ["Clark distance over the root of the number of emotions", false],
  canberra: ["Canberra distance over the number of emotions", false],
  cosine: ["cosine similarity of the shares", true],
  intersection: ["mass that the rated and the predicted shares have in common", true],
  negative_log_likelihood: ["of the emotion that a rater chose, in nats", false],
  brier: ["squared distance of the shares from a rater's choice, 0 to 2", false],
  calibration_error: ["share predicted for the dominant emotion against the raters' own", false],
  classwise_calibration_error: ["the same for every emotion", false],
};
const LEVELS = {
  chance: "every emotion equally likely",
  majority: "always the most common dominant emotion of the training pictures",
  mean: "always the mean shares of the training pictures",
  raters: "each picture's true shares, as far as its votes tell them, against these votes: the noise of the ratings",
};

const words = (name) => name.replaceAll("_", " ");
const figure = (value) => (typeof value === "number" ? value.toFixed(3) : "");
const signed = (value) => (value < 0 ? `\u2212${figure(-value)}` : `+${figure(value)}`);
const many = (count) => count.toLocaleString("en");

function element(tag, text = "", children = []) {
  const made = document.createElement(tag);
  made.textContent = text;
  made.append(...children);
  return made;
}

function table(caption, heads, rows) {
  const head = element("tr", "", heads.map((text) => Object.assign(element("th", text), { scope: "col" })));
  const body = rows.map(([first, ...rest]) => element("tr", "", [first, ...rest]));
  return element("table", "", [element("caption", caption), element("thead", "", [head]), element("tbody", "", body)]);
}

const rowHead = (text, small = "") =>
  Object.assign(element("th", text, small ? [element("small", small)] : []), { scope: "row" });
const number = (text) => Object.assign(element("td", text), { className: "number" });

function pairs(entries) {
  return entries.flatMap(([name, text]) => [element("dt", name), element("dd", text)]);
}

function show(told) {
  const { card, sha256, devices } = told;
  at("save-json").href = asFile(told);
  at("save-json").download = `${card.name}-${card.version}.json`;
  at("description").textContent = `${card.description}.`;
  at("facts").append(
    ...pairs([
      ["Name", `${card.name}, version ${card.version}, made on ${card.created}`],
      ["Emotions", card.labels.join(", ")],
      ["Learned", card.target === "distribution" ? "the shares of raters" : "the dominant emotion of each picture"],
      ["Looks at", `${card.input_size} × ${card.input_size} pixels, the whole photo stretched to fit`],
      ["Temperature", card.temperature.toFixed(3)],
      ["Is not sure", abstains(card)],
      ...(card.valence ? [["Valence", valence(card)]] : []),
      ["Runs on", devices.join(", ")],
      ["SHA-256", sha256],
    ]),
  );
  at("limits").textContent = card.limits;
  showScores(card);
  showData(card);
  at("command").textContent = card.command;
  const versions = Object.entries(card.versions).map(([name, version]) => `${name} ${version}`);
  at("versions").textContent = `Made with ${versions.join(", ")}; seed ${card.seed}.`;
  showPlots(card.plots);
  for (const place of document.querySelectorAll(".whose")) {
    place.textContent = card.stand_in ? `Of ${card.stand_in.release}, as all figures on this page.` : "";
    place.hidden = !card.stand_in;
  }
}

function abstains({ abstain: at }) {
  if (!at) return "never: it cannot tell what it does not know";
  const above = `above an entropy of ${figure(at.entropy)} nats, or a novelty of ${figure(at.novelty)}`;
  return `${above}; each was set to be so of ${(100 * at.share).toFixed(1)} % of held-out pictures`;
}

function valence({ valence: figures, valence_scale: scale }) {
  const told = Object.entries(figures).map(([emotion, value]) => `${emotion} ${value.toFixed(2)}`);
  return `${told.join(", ")}; ${scale}`;
}

export function tested({ split, cross_validation: folds, stand_in: other }) {
  if (other) {
    const { value, low, high } = other.changes.kl;
    return (
      `Not measured on this network, which learned from the pictures for the test, too, ${many(split.train)} of this set, ` +
      `but on ${other.release}, which learned from ${many(other.train)} of it, and was scored on the ${many(other.test)} for ` +
      `the test. With 95\u00a0% intervals. On ${many(split.validation)} pictures that neither has learned from, but that ` +
      `chose each one's temperature, this network's KL, which is better when lower, differs from that one's by ` +
      `${signed(value)} (${signed(low)} to ${signed(high)}).${filtered(split)}`
    );
  }
  if (!folds) {
    return (
      `Scored on ${many(split.test)} pictures that training kept apart, with 95\u00a0% intervals. ` +
      `The training used ${many(split.train)} pictures, and ${many(split.validation)} others to choose by.${filtered(split)}`
    );
  }
  const differs = folds.differs?.length ? ` This one was trained with other settings in: ${folds.differs.join(", ")}.` : "";
  return (
    `Not measured on this network, which learned from ${many(split.train)} of the ${many(folds.pictures)} pictures, but on ` +
    `${folds.folds * folds.repeats} others that were trained like it: each left out one of ${folds.folds} parts of the ` +
    `pictures, and was scored on that. With 95\u00a0% intervals.${differs}${filtered(split)}`
  );
}

function filtered({ min_agreement: least, top_classes: most }) {
  const left = [
    least == null ? "" : `those with an agreement below ${least}`,
    most == null ? "" : `those that another emotion than the ${most} most common dominates`,
  ].filter(Boolean);
  return left.length ? ` Of all pictures, ${left.join(" and ")} had been left out.` : "";
}

function showScores(card) {
  const { note, scores: measured, references } = card;
  at("tested").textContent = tested(card);
  at("note").textContent = note;
  const levels = Object.keys(references);
  const rows = Object.entries(measured).map(([name, score]) => [
    rowHead(words(name), [MEANING[name]?.[0], MEANING[name]?.[1] === false && "lower is better"].filter(Boolean).join("; ")),
    number(`${figure(score.value)} (${figure(score.low)} to ${figure(score.high)})`),
    ...levels.map((level) => number(figure(references[level][name]))),
  ]);
  const whose = card.stand_in?.release ?? "this model";
  at("scores").append(table("The same as a table", ["figure", whose, ...levels], rows));
  at("levels").append(...pairs(levels.map((level) => [level, LEVELS[level] ?? ""])));
  const better = (name) => MEANING[name]?.[1];
  at("plots").append(scores(measured, references, { words, better, whose }));
}

function showData({ data, start_weights: start }) {
  const rows = data.map(({ name, pictures, terms, citation }) => [
    rowHead(name, citation),
    number(many(pictures)),
    element("td", terms),
  ]);
  at("data").append(table("Sets of rated pictures", ["set", "pictures", "terms of use"], rows));
  at("start").textContent = `It began with the weights of: ${start}.`;
}

export function showPlots(plots) {
  if (plots?.reliability?.length) {
    at("reliability-plot").append(reliability(plots.reliability));
    at("reliability").hidden = false;
  }
  if (plots?.confusion) {
    at("confusion-plot").append(confusion(plots.confusion));
    at("confusion").hidden = false;
  }
}

async function load() {
  at("refusal").hidden = true;
  at("loading").hidden = false;
  try {
    show(await receive(await ask("v1/model"), "json"));
    at("card").hidden = false;
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    at("refused").textContent = error.title;
    at("why").textContent = error.advice;
    at("reference").textContent = error.reference;
    at("again").hidden = !error.again;
    at("refusal").hidden = false;
  } finally {
    at("loading").hidden = true;
  }
}

at("again").addEventListener("click", load);
await load();
