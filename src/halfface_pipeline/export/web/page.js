// What the visitor sees and does.

import { withText, zip } from "./files.js";
import { Frame } from "./frame.js";
import { Model } from "./model.js";

const CANVAS_SCALE = 4;
const at = (id) => document.getElementById(id);

let facts, example, frame; // model.json, a file, and the photo
let model; // what runs the network, once it has loaded
let running = false;
let faces = []; // completions of this run, by seed: {seed, blob, url, button}

// ---- The photo

async function usePhoto(source) {
  at("problem").textContent = "";
  try {
    await frame.use(source);
  } catch (error) {
    at("problem").textContent = error.message;
    return;
  }
  at("frame").classList.remove("empty");
  at("frame").setAttribute("aria-label", "Your photo inside the frame");
  enable();
}

function listenToPhoto() {
  at("file").addEventListener("change", (event) => {
    if (event.target.files[0]) usePhoto(event.target.files[0]);
    event.target.value = ""; // the same file can be chosen again
  });
  at("example").addEventListener("click", () => usePhoto(example));
  addEventListener("paste", (event) => event.clipboardData.files[0] && usePhoto(event.clipboardData.files[0]));
  for (const kind of ["dragover", "dragleave", "drop"]) {
    addEventListener(kind, (event) => {
      event.preventDefault();
      document.body.classList.toggle("dragging", kind === "dragover");
      if (kind === "drop" && event.dataTransfer.files[0]) usePhoto(event.dataTransfer.files[0]);
    });
  }
  at("zoom").addEventListener("input", (event) => frame.move(0, 0, Number(event.target.value) / frame.zoom));
  frame.changed = () => (at("zoom").value = frame.zoom);
}

function listenToCamera() {
  const dialog = at("camera"), video = dialog.querySelector("video");
  at("open-camera").hidden = !navigator.mediaDevices?.getUserMedia;
  at("open-camera").addEventListener("click", async () => {
    at("problem").textContent = "";
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user" } });
      dialog.showModal();
    } catch {
      at("problem").textContent = "There is no camera here that the page may use.";
    }
  });
  at("shoot").addEventListener("click", async () => {
    await usePhoto(await createImageBitmap(video));
    dialog.close();
  });
  at("close-camera").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    video.srcObject?.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
  });
}

// ---- Completions

/** Calls visit(place in a canvas's pixels, place in (3, h, w) values) for each colour of a half of the image. */
function eachValue(half, visit) {
  const { width, height } = facts, [, rows, columns] = facts.shape;
  const left = half === "right" ? width - columns : 0, top = half === "bottom" ? height - rows : 0;
  for (let c = 0, i = 0; c < 3; c++)
    for (let y = top; y < top + rows; y++)
      for (let x = left; x < left + columns; x++) visit(4 * (y * width + x) + c, i++);
}

/** A completion as a PNG that says what it is and how to generate it again. */
async function toPng(original, hidden, seed) {
  const canvas = new OffscreenCanvas(facts.width, facts.height), image = new ImageData(facts.width, facts.height);
  image.data.set(original.data);
  eachValue(facts.hidden_half, (place, i) => (image.data[place] = Math.round((hidden[i] + 1) * 127.5)));
  canvas.getContext("2d").putImageData(image, 0, 0);
  const runtime = `onnxruntime-web ${facts.runtime.version} ${model.runs}`;
  return withText(await canvas.convertToBlob(), { ...facts.png_text, seed, runtime });
}

async function complete() {
  const number = whole("number"), first = whole("seed");
  if (number === null || first === null) return;
  const original = frame.image(), known = new Float32Array(facts.shape.reduce((a, b) => a * b));
  eachValue(facts.known_half, (place, i) => (known[i] = original.data[place] / 127.5 - 1));
  const started = performance.now();
  clear();
  at("original").getContext("2d").putImageData(original, 0, 0);
  at("results").hidden = false;
  running = true;
  enable();
  say(`0 of ${number} completions`);
  let steps = 0, problem = "";
  const step = () => (at("progress").value = ++steps / (number * facts.steps.length));
  const found = async (seed, hidden) => {
    show(seed, await toPng(original, hidden, seed));
    say(`${faces.length} of ${number} completions`);
  };
  const seeds = Array.from({ length: number }, (_, k) => first + k);
  await model.complete(known, seeds, found, step).catch((error) => (problem = error.message));
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  if (problem) say(`This failed: ${problem}.`);
  else if (faces.length < number) say(`Stopped after ${faces.length} of ${number} completions.`);
  else say(`${number} of ${number} completions in ${seconds} s`);
  running = false;
  enable();
}

function show(seed, blob) {
  const face = { seed, blob, url: URL.createObjectURL(blob), button: document.createElement("button") };
  const image = document.createElement("img");
  face.button.type = "button";
  face.button.setAttribute("aria-label", `Completion with seed ${seed}`);
  face.button.setAttribute("aria-pressed", "false");
  [image.src, image.alt, image.width, image.height] = [face.url, "", facts.width, facts.height];
  face.button.append(image);
  face.button.addEventListener("click", () => choose(face));
  faces.push(face);
  faces.sort((a, b) => a.seed - b.seed);
  const after = faces[faces.indexOf(face) + 1];
  at("faces").insertBefore(face.button, after ? after.button : null);
  if (faces.length === 1) choose(face);
}

function choose(face) {
  for (const other of faces) other.button.setAttribute("aria-pressed", String(other === face));
  at("chosen").src = face.url;
  at("chosen").alt = `The completion with seed ${face.seed}; its ${facts.hidden_half} half is invented`;
  at("chosen-seed").textContent = `(seed ${face.seed})`;
  at("download").href = face.url;
  at("download").download = `halfface-seed-${face.seed}.png`;
}

function clear() {
  for (const face of faces) URL.revokeObjectURL(face.url);
  faces = [];
  at("faces").replaceChildren();
  at("chosen").removeAttribute("src");
}

async function downloadAll() {
  const archive = await zip(faces.map((face) => [`halfface-seed-${face.seed}.png`, face.blob]));
  const link = document.createElement("a");
  [link.href, link.download] = [URL.createObjectURL(archive), "halfface-completions.zip"];
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// ---- Settings and state

function enable() {
  at("complete").disabled = !model || !frame.photo || running;
  at("stop").disabled = !running;
  at("download-all").disabled = running;
}

function say(text) {
  at("status").textContent = text;
}

/** A whole number from a setting, or null after saying what is allowed. */
function whole(id) {
  const { value, min, max } = at(id), number = Number(value);
  if (value !== "" && Number.isInteger(number) && number >= Number(min) && number <= Number(max)) return number;
  say(`${at(id).labels[0].textContent.trim()} must be a whole number from ${min} to ${max}.`);
  return null;
}

async function start() {
  if (typeof WebAssembly !== "object" || typeof DecompressionStream !== "function")
    throw new Error("this browser has no WebAssembly or is too old; please use a current browser");
  facts = await (await fetch("model.json")).json();
  example = await (await fetch(facts.example)).blob();
  for (const span of document.querySelectorAll(".known")) span.textContent = facts.known_half;
  for (const span of document.querySelectorAll(".hidden")) span.textContent = facts.hidden_half;
  at("model").textContent = `Model: ${facts.name}, ${facts.width} × ${facts.height} pixels.`;
  at("cover").className = facts.hidden_half;
  [at("original").width, at("original").height] = [facts.width, facts.height];
  frame = new Frame(at("frame"), facts.width, facts.height, CANVAS_SCALE);
  listenToPhoto();
  listenToCamera();
  at("complete").addEventListener("click", complete);
  at("stop").addEventListener("click", () => model.stop());
  at("another").addEventListener("click", () => {
    at("seed").value = crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000;
  });
  at("download-all").addEventListener("click", downloadAll);
  model = await Model.load((part) => {
    at("progress").value = part;
    say(part < 1 ? `Loading the model: ${Math.floor(100 * part)} %` : "Starting the model …");
  });
  at("progress").value = 0;
  at("status").dataset.runs = model.runs;
  say("Ready. Choose a photo, then press Complete.");
  enable();
}

start().catch((error) => say(`The model cannot run here: ${error.message}.`));
