// The page: one photo at a time, its emotions as bars, and a heat map for the emotion that is chosen.

import { smaller } from "./copies.js";
import { Refusal, asFile, ask, receive } from "./service.js";

const at = (id) => document.getElementById(id);
const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;
const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`).value;
const say = (text) => (at("said").textContent = text);

// maps: by quality and emotion, {url, evidence, imbalance}. pending: what runs now. all: the sheet in the making,
// {quality, unfinished}. sheet: the one that is shown, {png, quality}.
// again: what a refusal offers to repeat. turn: counts the choices of an emotion, so that a late answer knows
// whether it is still wanted. before: the last photo that was answered, while another is looked at.
const state = {
  photo: null, answer: null, explained: null, maps: new Map(),
  before: null, pending: null, all: null, sheet: null, again: null, clock: null, turn: 0,
};

// ---- one task at a time -------------------------------------------------------------------------------------

// A new task takes the place of the old. Resolves to null when it was cancelled or refused, which is told of `whose`.
async function run(message, again, task, whose = "") {
  state.pending?.abort();
  const pending = (state.pending = new AbortController());
  hideRefusal();
  at("doing").textContent = message;
  say(message);
  at("working").hidden = false;
  at("controls").hidden = true;
  const stop = tick();
  try {
    return await task(pending.signal);
  } catch (error) {
    if (error.name === "AbortError") return null;
    const told = error instanceof Refusal ? error : new Refusal(UNEXPECTED);
    if (state.pending === pending) showRefusal(told, again, whose);
    if (told !== error) console.error(error);
    return null;
  } finally {
    stop();
    if (state.pending === pending) {
      state.pending = null;
      at("working").hidden = true;
      at("controls").hidden = at("save-map").hidden; // a map that was there is there again
    }
  }
}

const UNEXPECTED = {
  title: "The page had a failure.",
  advice: "Try again, or load the page anew; the browser's console says more.",
  again: true,
};

function tick() {
  const started = performance.now();
  const show = () => (at("elapsed").textContent = `${Math.floor((performance.now() - started) / 1000)} s`);
  show();
  const clock = setInterval(show, 250);
  return () => clearInterval(clock);
}

function cancel() {
  if (!state.pending) return;
  const reason = state.answer ? "Cancelled. Choose an emotion to go on." : "Cancelled.";
  const held = at("working").contains(document.activeElement);
  state.pending.abort();
  say(reason);
  if (held) (state.answer ? at("dominant") : at("file")).focus({ preventScroll: true });
}

function showRefusal(refusal, again, whose = "") {
  at("refused").textContent = whose ? `${whose}: ${refusal.title}` : refusal.title;
  at("why").textContent = refusal.advice;
  at("reference").textContent = refusal.reference;
  at("again").hidden = !refusal.again;
  state.again = again;
  at("refusal").hidden = false;
  at("refusal").scrollIntoView({ block: "nearest" });
  say("");
  wait(refusal.seconds);
}

// The button counts down what the service asked to wait for.
function wait(seconds) {
  clearTimeout(state.clock);
  at("again").disabled = seconds > 0;
  at("again").textContent = seconds > 0 ? `Try again in ${seconds} s` : "Try again";
  if (seconds > 0) state.clock = setTimeout(() => wait(seconds - 1), 1000);
}

function hideRefusal() {
  clearTimeout(state.clock);
  at("refusal").hidden = true;
}

function refuse(title, advice) {
  showRefusal(new Refusal({ title, advice, again: false }), null);
}

// ---- one photo ----------------------------------------------------------------------------------------------

function takeFirst(files, nothing) {
  if (files.length === 0) {
    refuse(...nothing);
    return;
  }
  take(files[0], files.length > 1 ? `This is the first of the ${files.length} files; one is looked at at a time.` : "");
}

async function take(photo, note = "") {
  if (state.answer) {
    const { photo, answer, explained, maps, sheet } = state;
    state.before = { photo, answer, explained, maps, sheet, note: at("note").textContent };
    state.maps = new Map();
  }
  clear();
  show(photo, note);
  at("dominant").textContent = "One moment";
  const answer = await run(
    "Looking at the photo …",
    () => take(photo, note),
    async (signal) => receive(await ask("predict", { photo, signal }), "json"),
    photo.name,
  );
  if (state.photo !== photo) return; // another photo came meanwhile
  if (answer === null) {
    goBack();
    return;
  }
  discard(state.before);
  state.before = null;
  state.answer = answer;
  showAnswer();
  at("result").scrollIntoView({ block: "nearest" });
  at("dominant").focus({ preventScroll: true });
  await explain(answer.dominant.emotion);
}

function show(photo, note) {
  state.photo = photo;
  at("photo").src = URL.createObjectURL(photo);
  at("photo").alt = photo.name ? `the photo ${photo.name}` : "the photo";
  at("note").textContent = note;
  at("result").hidden = false;
  document.body.classList.add("taken");
}

// A photo that was refused, or not waited for, costs nothing of what was there before.
function goBack() {
  const { before } = state;
  state.before = null;
  clear();
  if (!before) return;
  show(before.photo, before.note);
  const map = before.maps.get(`${chosen("quality")} ${before.explained}`);
  Object.assign(state, { answer: before.answer, maps: before.maps, explained: map ? before.explained : null });
  showAnswer();
  if (map) showMapFor(before.explained, chosen("quality"), map);
  if (before.sheet) showSheetOf(before.sheet);
}

function discard(left) {
  for (const { url } of left?.maps.values() ?? []) URL.revokeObjectURL(url);
}

function clear() {
  URL.revokeObjectURL(at("photo").src);
  URL.revokeObjectURL(at("save-json").href);
  state.photo = state.answer = state.explained = null;
  at("save-json").removeAttribute("href");
  at("bars").replaceChildren();
  at("dominant").textContent = at("model").textContent = at("terms").textContent = "";
  at("abstained").hidden = at("valence").hidden = true;
  at("photo").removeAttribute("src");
  at("result").hidden = true;
  document.body.classList.remove("taken");
  hideMap();
  hideSheet();
}

const ABSTAINED = {
  flat: "No emotion stands out: the shares below differ too little to name one.",
  unfamiliar: "This photo is unlike those that the network has learned from, so the shares below may be far off.",
};

function showAnswer() {
  const { answer } = state;
  const { dominant, model } = answer;
  const strongest = `${dominant.emotion}, ${percent(dominant.probability)}`;
  at("dominant").textContent = answer.abstained ? `Not sure; perhaps ${strongest}` : `Above all ${strongest}`;
  at("abstained").hidden = !answer.abstained;
  at("abstained").textContent = ABSTAINED[answer.abstained_because] ?? "The network would rather not name one emotion.";
  showCard(answer.valence).catch(() => {}); // without its scale, should the card be out of reach
  at("model").textContent = `Answered by ${model.name}, version ${model.version}.`;
  at("save-json").href = asFile(answer);
  at("save-json").download = `${stem()}-emotions.json`;
  showBars();
}

// What a valence means, and what the checkpoint may be used for, is its own business: its card says so.
async function showCard(valence) {
  const { answer } = state;
  const known = typeof valence === "number";
  at("valence").hidden = !known;
  if (known) at("valence").textContent = `Valence ${valence.toFixed(2)}.`;
  const { card } = await receive(await ask("v1/model"), "json");
  if (state.answer !== answer) return;
  const terms = new Set(card.data.flatMap((each) => each.terms.split("; "))); // several sets have the same
  at("terms").textContent = `Terms of the pictures it learned from: ${[...terms].join("; ")}.`;
  if (known && card.valence_scale) {
    at("valence").textContent = `Valence ${valence.toFixed(2)}: ${card.valence_scale}.`;
  }
}

function stem() {
  return (state.photo.name ?? "photo").replace(/\.[^.]*$/, "") || "photo";
}

function showBars() {
  const { distribution, dominant } = state.answer;
  const entries = Object.entries(distribution);
  if (chosen("order") === "sorted") entries.sort(([, one], [, other]) => other - one);
  const furthest = Math.min(1, Math.ceil(dominant.probability * 4 + 1e-9) / 4); // so that small shares are seen
  at("bars").replaceChildren(...entries.map(([emotion, share]) => bar(emotion, share, furthest)), axis(furthest));
  press();
}

function bar(emotion, share, furthest) {
  const button = document.createElement("button");
  button.type = "button";
  button.dataset.emotion = emotion;
  button.className = emotion === state.answer.dominant.emotion ? "dominant" : "";
  const [name, track, fill, number] = ["name", "track", "fill", "share"].map(part);
  name.textContent = emotion;
  number.textContent = percent(share);
  fill.style.width = `${(100 * share) / furthest}%`;
  track.append(fill);
  button.append(name, track, number);
  button.addEventListener("click", () => {
    at("figure").scrollIntoView({ block: "nearest" }); // on a phone it lies above what can be seen
    explain(emotion);
  });
  const item = document.createElement("li");
  item.append(button);
  return item;
}

function axis(furthest) {
  const ends = part("ends");
  ends.append("0", Object.assign(part("end"), { textContent: `${100 * furthest} %` }));
  const item = document.createElement("li");
  item.className = "axis";
  item.setAttribute("aria-hidden", "true");
  item.append(ends);
  return item;
}

function part(kind) {
  const made = document.createElement("span");
  made.className = kind;
  return made;
}

// ---- the heat map -------------------------------------------------------------------------------------------

async function explain(emotion) {
  const { photo } = state;
  const quality = chosen("quality");
  const key = `${quality} ${emotion}`;
  const turn = ++state.turn;
  hideMap();
  state.explained = emotion;
  press();
  if (state.maps.has(key)) {
    if (!state.all) state.pending?.abort(); // a sheet is made on
    hideRefusal();
  } else {
    const path = `explain?emotion=${encodeURIComponent(emotion)}&quality=${quality}`;
    const made = await run(`Looking for what speaks for ${emotion}`, () => explain(emotion), async (signal) => {
      const response = await ask(path, { photo: await smaller(photo), signal });
      const told = (name) => response.headers.get(`X-DeepEmotion-${name}`);
      return { png: await receive(response, "blob"), evidence: told("Evidence"), imbalance: Number(told("Imbalance")) };
    });
    if (state.photo !== photo || turn !== state.turn) return;
    if (made === null) {
      state.explained = null;
      press();
      return;
    }
    const { png, ...facts } = made;
    state.maps.set(key, { url: URL.createObjectURL(png), ...facts });
  }
  showMapFor(emotion, quality, state.maps.get(key));
}

const ROUGH = 0.05; // of imbalance; docs/explanations.md says why

function showMapFor(emotion, quality, { url, evidence, imbalance }) {
  at("map").src = at("save-map").href = url;
  at("map").alt = `heat map: what in the photo speaks for ${emotion}, in red, and against it, in blue`;
  at("save-map").download = `${stem()}-${emotion}-${quality}.png`;
  at("rough").hidden = evidence === "no" || !(imbalance > ROUGH);
  at("rough").textContent = `This map is a rough one${quality === "quick" ? ": choose thorough" : ""}.`;
  at("explained").textContent = emotion;
  at("nothing").hidden = evidence !== "no";
  at("controls").hidden = at("save-map").hidden = false;
  const seen = at("shown").checked ? "shown" : "ready, but hidden";
  say(`The ${quality} heat map for ${emotion} is ${seen}.${evidence === "no" ? ` ${at("nothing").textContent}` : ""}`);
  showMap();
}

function hideMap() {
  at("map").hidden = at("controls").hidden = at("save-map").hidden = true;
  at("map").removeAttribute("src"); // else it is seen until the next one is decoded
}

function showMap() {
  at("map").hidden = !at("shown").checked;
  at("opacity").disabled = !at("shown").checked;
  at("map").style.opacity = at("opacity").value / 100;
  at("strength").textContent = `${at("opacity").value} %`;
  at("opacity").setAttribute("aria-valuetext", `${at("opacity").value} percent`);
}

function press() {
  for (const button of at("bars").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.dataset.emotion === state.explained));
  }
}

// ---- all emotions at once -----------------------------------------------------------------------------------

// unfinished: the emotion whose map gives way to the sheet, or to one before it, and is then made anew.
async function showSheet(unfinished = state.pending && (state.explained ?? state.all?.unfinished)) {
  const { photo } = state;
  const quality = chosen("quality");
  const path = `explain?view=sheet&legend=true&quality=${quality}`;
  let own;
  const png = await run("Looking for what speaks for each emotion", () => showSheet(unfinished), async (signal) => {
    own = state.all = { quality, unfinished };
    return receive(await ask(path, { photo: await smaller(photo), signal }), "blob");
  });
  if (state.all === own) state.all = null;
  if (state.photo !== photo || png === null) return;
  unfold(png, quality);
  if (unfinished && !state.explained && !state.pending) explain(unfinished);
}

function unfold(png, quality) {
  showSheetOf({ png, quality });
  at("sheet-title").focus();
  say("The heat maps of all emotions are shown.");
}

function showSheetOf(sheet) {
  hideSheet();
  state.sheet = sheet;
  const { png, quality } = sheet;
  const told = Object.entries(state.answer.distribution).sort(([, one], [, other]) => other - one);
  const names = told.map(([emotion, share]) => `${emotion} ${percent(share)}`).join(", ");
  at("sheet-picture").src = at("save-sheet").href = URL.createObjectURL(png);
  at("sheet-picture").alt = `a heat map for each emotion: ${names}`;
  at("save-sheet").download = `${stem()}-all-emotions-${quality}.png`;
  at("sheet-title").textContent = `All emotions at once, ${quality}`;
  at("sheet").hidden = false;
}

function hideSheet() {
  state.sheet = null;
  URL.revokeObjectURL(at("sheet-picture").src);
  at("sheet-picture").removeAttribute("src");
  at("sheet").hidden = true;
}

// ---- what a person does -------------------------------------------------------------------------------------

for (const id of ["file", "camera"]) {
  at(id).addEventListener("change", (event) => {
    if (event.target.files.length) take(event.target.files[0]);
    event.target.value = ""; // so that the same file can be chosen again
  });
}
for (const button of at("samples").querySelectorAll("button")) {
  button.addEventListener("click", async () => {
    const name = `${button.dataset.sample}.jpg`;
    const choose = async () => {
      const sample = await run("Fetching the photo …", choose, async (signal) =>
        receive(await ask(`web/samples/${name}`, { signal }), "blob"),
      );
      if (sample) take(new File([sample], name, { type: sample.type }));
    };
    choose();
  });
}
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) document.body.classList.remove("over"); // left the window, not just one element
});
const asked = () => document.querySelector("dialog[open]") !== null; // what is done then is meant for the dialog
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  if (asked()) return;
  takeFirst(event.dataTransfer.files, ["That is not a file.", "Save the picture first, then drop the file here."]);
});
addEventListener("paste", (event) => {
  if (asked()) return;
  takeFirst(event.clipboardData.files, ["There is no picture to paste.", "Copy a picture first, or choose a file."]);
});
at("photo").addEventListener("load", ({ target }) => {
  at("stage").style.setProperty("--ratio", target.naturalWidth / target.naturalHeight);
});
at("cancel").addEventListener("click", cancel);
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !asked()) cancel();
});
at("again").addEventListener("click", () => {
  const { again, answer } = state;
  hideRefusal();
  if (answer) at("dominant").focus({ preventScroll: true }); // the button that had it is gone
  again?.();
});
for (const input of document.querySelectorAll('input[name="order"]')) {
  input.addEventListener("change", () => state.answer && showBars());
}
for (const input of document.querySelectorAll('input[name="quality"]')) {
  input.addEventListener("change", () => state.answer && state.explained && explain(state.explained));
}
at("all").addEventListener("click", () => {
  if (!state.answer) return; // it would take the photo's place
  if (state.all?.quality !== chosen("quality")) showSheet(); // else it is being made
});
at("close-sheet").addEventListener("click", () => {
  hideSheet();
  at("all").focus();
});
at("shown").addEventListener("change", showMap);
at("opacity").addEventListener("input", showMap);
