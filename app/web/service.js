// Asks the service, and says in a visitor's words why it did not answer.

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
const sentence = (text) => (text ? `${text[0].toUpperCase()}${text.slice(1)}.` : "");

// What a visitor can do, by the last part of a problem's type: [title, advice, the same photo may be sent again].
// The service's own remedies speak to programmers, and are shown for whatever is not listed here.
const SMALLER = "Save a smaller copy of it and try that: the network looks at a small version anyway.";
const WORDS = {
  "unsupported-picture": ["This file is not a picture that can be read.", "Save it as JPEG, PNG or WebP and try that.", false],
  "unsupported-media-type": ["This file is not a picture that can be read.", "Save it as JPEG, PNG or WebP and try that.", false],
  "broken-picture": ["This picture is damaged.", "Check that it opens elsewhere, or choose another one.", false],
  "empty-picture": ["This file is empty.", "Choose another one.", false],
  "body-too-large": ["This photo is too large.", SMALLER, false],
  "too-many-pixels": ["This photo is too large.", SMALLER, false],
  "body-too-slow": ["Sending the photo took too long.", "Try again over a faster connection, or with a smaller copy.", true],
  "queue-full": ["The service is busy.", "Try again in a moment.", true],
  busy: ["The service is busy.", "Try again in a moment.", true],
  "too-many-connections": ["The service is busy.", "Try again in a moment.", true],
  "out-of-memory": ["The service is short of memory.", "Try again in a moment, or with a smaller copy.", true],
  "not-ready": ["The service is not ready yet.", "It is starting or stopping; try again in a moment.", true],
  stopping: ["The service is stopping.", "Try again in a moment.", true],
  "no-replica": ["The service is not there now.", "Try again in a moment.", true], // what stands before it says so
  "device-lost": ["The service had a failure and is recovering.", "Try again in a moment.", true],
  "key-needed": ["This service asks for a key.", "Whoever runs it gives them out; try again with yours.", true],
  "keys-unreadable": ["The service cannot tell who may ask.", "Try again in a moment.", true],
  "too-often": ["That was too much at once.", "Try again in a moment.", true],
  "deadline-passed": ["The answer took too long.", "The service is busy; try again in a while.", true],
};

export class Refusal extends Error {
  // title: what happened; advice: what to do; again: whether the same may be tried again, in how many seconds.
  constructor({ title, advice, again, seconds = 0, reference = "" }) {
    super(`${title} ${advice}`);
    Object.assign(this, { title, advice, again, seconds, reference });
  }
}

export async function ask(path, { photo, signal } = {}) {
  let response = await send(path, photo, signal);
  while (response.status === 401) {
    const key = await askForKey(knownKey() !== null);
    if (!key) break;
    keep(key);
    response = await send(path, photo, signal);
  }
  if (!response.ok) throw new Refusal(await refusal(response, photo));
  return response;
}

// Kept until the tab is closed, and sent to this service alone.
const KEY = "deepemotion-key";
let given = null; // for a browser that refuses to store anything

function knownKey() {
  try {
    return given ?? sessionStorage.getItem(KEY);
  } catch {
    return given;
  }
}

function keep(key) {
  given = key;
  try {
    sessionStorage.setItem(KEY, key);
  } catch {
    // it is asked for again on the next page
  }
}

async function send(path, photo, signal) {
  const key = knownKey();
  const headers = key === null ? {} : { Authorization: `Bearer ${key}` };
  if (photo) headers["Content-Type"] = "application/octet-stream";
  try {
    return await fetch(path, { method: photo ? "POST" : "GET", body: photo, headers, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal((await readable(photo)) ? unreachable(photo) : UNREADABLE);
  }
}

// A folder can be dropped like a file, and a file can be moved or changed after it was chosen.
const UNREADABLE = {
  title: "This file cannot be read.",
  advice: "Choose a picture, not a folder, or choose it again.",
  again: false,
};

async function readable(photo) {
  return !photo || photo.slice(0, 1).arrayBuffer().then(() => true, () => false);
}

let asking = null; // two requests that need a key at once ask for it once

function askForKey(refused) {
  asking ??= new Promise((resolve) => {
    const dialog = document.createElement("dialog");
    dialog.setAttribute("aria-label", "A key is needed");
    dialog.innerHTML = `<form method="dialog"><p><label for="key">This service asks for a key.</label></p>
      <p id="key-refused" role="alert"></p>
      <p><input id="key" type="password" autocomplete="off" spellcheck="false" pattern="[!-~]+" required></p>
      <p class="hint">Whoever runs the service gives them out. It is forgotten when this tab is closed.</p>
      <p><button id="key-send">Go on</button> <button id="key-cancel" type="button">Cancel</button></p></form>`;
    const input = dialog.querySelector("#key");
    dialog.querySelector("#key-refused").textContent = refused ? "The last key is not known here." : "";
    dialog.querySelector("#key-cancel").addEventListener("click", () => dialog.close());
    dialog.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      dialog.close(input.value.trim());
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      asking = null;
      resolve(dialog.returnValue);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
  return asking;
}

// The address of an answer as a file of its own: one that a link asks for would come without the key.
export function asFile(told) {
  return URL.createObjectURL(new Blob([JSON.stringify(told, null, 2)], { type: "application/json" }));
}

// A body can break off like a connection; resolves to what `read` makes of the response.
export async function receive(response, read) {
  try {
    return await response[read]();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(unreachable(null));
  }
}

function unreachable(photo) {
  const large = photo?.size > 10e6 ? ` The photo has ${megabytes(photo.size)}: a smaller copy may get through.` : "";
  return {
    title: "The service cannot be reached.",
    advice: `Check the connection, and that the service runs, then try again.${large}`,
    again: true,
  };
}

async function refusal(response, photo) {
  const problem = await response.json().catch(() => null);
  const seconds = Number.parseInt(response.headers.get("Retry-After") ?? "0", 10) || 0;
  if (!problem?.type) return fromAnother(response.status, photo, seconds);
  const known = WORDS[problem.type.split(":").pop()];
  const reference = response.status === 500 ? `Quote this when you report it: ${problem.request_id}` : "";
  if (!known) {
    const advice = `${sentence(problem.detail)} ${sentence(problem.remedy)}`;
    return { title: sentence(problem.title), advice, again: response.status >= 500, seconds, reference };
  }
  const [title, advice, again] = known;
  const size = response.status === 413 && photo ? sizeOf(problem, photo) : "";
  return { title, advice: `${size}${advice}`, again, seconds, reference };
}

// The service says what is wrong in a problem; what has none comes from whatever stands between.
function fromAnother(status, photo, seconds) {
  if (status === 413 && photo) {
    const [title, advice, again] = WORDS["body-too-large"];
    return { title, advice: `It has ${megabytes(photo.size)}. ${advice}`, again, seconds };
  }
  return { title: `The service answered ${status}.`, advice: "Try again.", again: true, seconds };
}

function sizeOf(problem, photo) {
  return problem.type.endsWith("too-many-pixels") ? `${sentence(problem.detail)} ` : `It has ${megabytes(photo.size)}. `;
}
