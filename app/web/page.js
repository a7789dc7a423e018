// The page: one photo at a time, its emotions as bars, and a heat map for the emotion that is chosen.

const at = (id) => document.getElementById(id);
const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;

const state = { photo: null, answer: null, pending: null, maps: new Map() };

// ---- asking the service -------------------------------------------------------------------------------------

class Refusal extends Error {}

async function ask(path, photo, signal) {
  let response;
  try {
    response = await fetch(path, {
      method: "POST",
      body: photo,
      signal,
      headers: { "Content-Type": "application/octet-stream" },
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal("The service cannot be reached. Check that it runs, then try again.");
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => null);
  if (problem === null) throw new Refusal(`The service answered ${response.status}. Try again.`);
  throw new Refusal(`${sentence(problem.detail)} ${sentence(problem.remedy)}`);
}

// Runs one task at a time; a new one takes the place of the old. Resolves to null when it was cancelled.
async function run(message, task) {
  state.pending?.abort();
  const pending = (state.pending = new AbortController());
  at("refusal").hidden = true;
  at("doing").textContent = message;
  at("working").hidden = false;
  at("controls").hidden = true;
  try {
    return await task(pending.signal);
  } catch (error) {
    if (error.name === "AbortError") return null;
    if (!(error instanceof Refusal)) throw error;
    at("refusal").textContent = error.message;
    at("refusal").hidden = false;
    return null;
  } finally {
    if (state.pending === pending) {
      state.pending = null;
      at("working").hidden = true;
    }
  }
}

// ---- one photo ----------------------------------------------------------------------------------------------

async function take(photo) {
  forget();
  state.photo = photo;
  at("photo").src = URL.createObjectURL(photo);
  at("result").hidden = false;
  const answer = await run("Looking at the photo …", async (signal) =>
    (await ask("predict", photo, signal)).json(),
  );
  if (state.photo !== photo) return; // another photo came meanwhile
  if (answer === null) {
    forget();
    return;
  }
  state.answer = answer;
  showAnswer();
  at("dominant").focus({ preventScroll: true });
  await explain(answer.dominant.emotion);
}

function forget() {
  URL.revokeObjectURL(at("photo").src);
  URL.revokeObjectURL(at("save-json").href);
  for (const url of state.maps.values()) URL.revokeObjectURL(url);
  state.maps.clear();
  state.photo = state.answer = null;
  at("bars").replaceChildren();
  at("dominant").textContent = at("model").textContent = "";
  at("photo").removeAttribute("src");
  at("result").hidden = true;
  hideMap();
}

function showAnswer() {
  const { distribution, dominant, model } = state.answer;
  at("dominant").textContent = `Mostly ${dominant.emotion}, ${percent(dominant.probability)}`;
  at("model").textContent = `Answered by ${model.name} ${model.version}.`;
  at("save-json").href = URL.createObjectURL(
    new Blob([JSON.stringify(state.answer, null, 2)], { type: "application/json" }),
  );
  const entries = Object.entries(distribution);
  if (at("sorted").checked) entries.sort(([, one], [, other]) => other - one);
  at("bars").replaceChildren(...entries.map(([emotion, share]) => bar(emotion, share, dominant.emotion)));
}

function bar(emotion, share, dominant) {
  const button = document.createElement("button");
  button.type = "button";
  button.dataset.emotion = emotion;
  button.className = emotion === dominant ? "dominant" : "";
  button.setAttribute("aria-pressed", String(emotion === at("explained").textContent));
  button.setAttribute("aria-label", `${emotion}, ${percent(share)}: show what speaks for it`);
  const meter = document.createElement("meter");
  meter.value = share;
  const name = document.createElement("span");
  name.textContent = emotion;
  const number = document.createElement("span");
  number.className = "share";
  number.textContent = percent(share);
  button.append(name, meter, number);
  button.addEventListener("click", () => explain(emotion));
  const item = document.createElement("li");
  item.append(button);
  return item;
}

// ---- the heat map -------------------------------------------------------------------------------------------

async function explain(emotion) {
  const photo = state.photo;
  hideMap();
  if (!state.maps.has(emotion)) {
    const png = await run(`Looking for what speaks for ${emotion} …`, async (signal) =>
      (await ask(`explain?emotion=${encodeURIComponent(emotion)}`, photo, signal)).blob(),
    );
    if (png === null || state.photo !== photo) return;
    state.maps.set(emotion, URL.createObjectURL(png));
  } else {
    state.pending?.abort();
  }
  at("map").src = at("save-map").href = state.maps.get(emotion);
  at("map").alt = `heat map: what in the photo speaks for ${emotion}, in red, and against it, in blue`;
  at("explained").textContent = emotion;
  at("controls").hidden = at("save-map").hidden = false;
  press(emotion);
  showMap();
}

function hideMap() {
  at("map").hidden = at("controls").hidden = at("save-map").hidden = true;
  at("explained").textContent = "";
  press(null);
}

function showMap() {
  at("map").hidden = !at("shown").checked;
  at("map").style.opacity = at("opacity").value / 100;
}

function press(emotion) {
  for (const button of at("bars").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.dataset.emotion === emotion));
  }
}

// ---- what a person does -------------------------------------------------------------------------------------

at("file").addEventListener("change", (event) => {
  if (event.target.files.length) take(event.target.files[0]);
  event.target.value = ""; // so that the same file can be chosen again
});
for (const button of at("samples").querySelectorAll("button")) {
  button.addEventListener("click", async () => {
    const sample = await fetch(`web/samples/${button.dataset.sample}.jpg`);
    take(await sample.blob());
  });
}
addEventListener("dragover", (event) => {
  event.preventDefault();
  at("drop").classList.add("over");
});
addEventListener("dragleave", () => at("drop").classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  at("drop").classList.remove("over");
  if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
});
addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) take(event.clipboardData.files[0]);
});
at("cancel").addEventListener("click", () => state.pending?.abort());
at("sorted").addEventListener("change", () => state.answer && showAnswer());
at("shown").addEventListener("change", showMap);
at("opacity").addEventListener("input", showMap);
