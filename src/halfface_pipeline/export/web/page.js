// What the visitor sees and does. The model runs in sampler.js, a worker.

import { readPhoto, resize, withText, zip } from "./files.js";

const PREVIEW = 4; // canvas pixels of the framed photo for each pixel of the model's images
const LARGEST_ZOOM = 5, MOVE = 0.03;
const at = (id) => document.getElementById(id);

let model, worker, answer; // `answer` receives what the worker says about the completion in progress
let photo, zoom = 1, centre = [0.5, 0.5]; // the frame: how many times smaller than possible, and where in the photo
let faces = []; // of this run: {seed, blob, url}

// ---- The photo and its frame

/** Left, top, width and height in the photo of what is completed: the model's proportions, inside the photo. */
function frameBox() {
  const scale = Math.min(photo.width / model.width, photo.height / model.height) / zoom;
  const width = Math.max(1, Math.round(model.width * scale)), height = Math.max(1, Math.round(model.height * scale));
  const inside = (place, side, whole) => Math.round(Math.min(Math.max(place * whole - side / 2, 0), whole - side));
  return [inside(centre[0], width, photo.width), inside(centre[1], height, photo.height), width, height];
}

function moveFrame(across, down) { // by parts of the frame
  const [left, top, width, height] = frameBox();
  centre = [(left + width / 2 + across * width) / photo.width, (top + height / 2 + down * height) / photo.height];
  draw();
}

function setZoom(value) {
  const [left, top, width, height] = frameBox();
  centre = [(left + width / 2) / photo.width, (top + height / 2) / photo.height];
  zoom = Math.min(Math.max(value, 1), LARGEST_ZOOM);
  at("zoom").value = zoom;
  draw();
}

function draw() {
  const canvas = at("photo"), pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.fillStyle = "white"; // transparency is laid over white
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(photo, ...frameBox(), 0, 0, canvas.width, canvas.height);
}

/** The framed part of the photo in the model's size. */
function framed() {
  const [left, top, width, height] = frameBox();
  const pen = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  pen.fillStyle = "white";
  pen.fillRect(0, 0, width, height);
  pen.drawImage(photo, left, top, width, height, 0, 0, width, height);
  return resize(pen.getImageData(0, 0, width, height), model.width, model.height);
}

async function usePhoto(source) {
  at("problem").textContent = "";
  try {
    const next = source instanceof Blob ? await readPhoto(source) : source;
    photo?.close();
    photo = next;
  } catch (error) {
    at("problem").textContent = error.message;
    return;
  }
  [zoom, centre] = [1, [0.5, 0.5]];
  at("zoom").value = 1;
  at("frame").classList.remove("empty");
  at("frame").setAttribute("aria-label", "Your photo inside the frame");
  draw();
  enable();
}

function listenToPhoto() {
  at("file").addEventListener("change", (event) => {
    if (event.target.files[0]) usePhoto(event.target.files[0]);
    event.target.value = ""; // the same file can be chosen again
  });
  at("example").addEventListener("click", async () => usePhoto(await (await fetch(model.example)).blob()));
  addEventListener("paste", (event) => event.clipboardData.files[0] && usePhoto(event.clipboardData.files[0]));
  for (const kind of ["dragover", "dragleave", "drop"]) {
    addEventListener(kind, (event) => {
      event.preventDefault();
      document.body.classList.toggle("dragging", kind === "dragover");
      if (kind === "drop" && event.dataTransfer.files[0]) usePhoto(event.dataTransfer.files[0]);
    });
  }
  at("zoom").addEventListener("input", (event) => photo && setZoom(Number(event.target.value)));
  const frame = at("frame"), fingers = new Map();
  const spread = () => {
    const [a, b] = fingers.values();
    return Math.hypot(a[0] - b[0], a[1] - b[1]);
  };
  frame.addEventListener("pointerdown", (event) => {
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    frame.setPointerCapture(event.pointerId);
  });
  frame.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before || !photo) return;
    const distance = fingers.size === 2 ? spread() : 0;
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    if (distance) return setZoom((zoom * spread()) / distance);
    moveFrame((before[0] - event.clientX) / frame.clientWidth, (before[1] - event.clientY) / frame.clientHeight);
  });
  for (const kind of ["pointerup", "pointercancel"])
    frame.addEventListener(kind, (event) => fingers.delete(event.pointerId));
  frame.addEventListener("wheel", (event) => {
    if (!photo) return;
    event.preventDefault();
    setZoom(zoom * (event.deltaY < 0 ? 1.1 : 1 / 1.1));
  }, { passive: false });
  frame.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [-MOVE, 0], ArrowRight: [MOVE, 0], ArrowUp: [0, -MOVE], ArrowDown: [0, MOVE] };
    const zooms = { "+": 1.1, "-": 1 / 1.1 };
    if (!photo || !(moves[event.key] || zooms[event.key])) return;
    event.preventDefault();
    if (moves[event.key]) moveFrame(...moves[event.key]);
    else setZoom(zoom * zooms[event.key]);
  });
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

/** Left, top, width and height of the known or the hidden half in the model's images. */
function half(which) {
  const { width, height } = model;
  const sides = {
    top: [0, 0, width, height / 2],
    bottom: [0, height / 2, width, height / 2],
    left: [0, 0, width / 2, height],
    right: [width / 2, 0, width / 2, height],
  };
  return sides[which];
}

/** Float32 (3, h, w) in [-1, 1] of a part of an image. */
function toSigned(image, [left, top, width, height]) {
  const values = new Float32Array(3 * width * height);
  for (let c = 0, i = 0; c < 3; c++)
    for (let y = top; y < top + height; y++)
      for (let x = left; x < left + width; x++) values[i++] = image.data[4 * (y * image.width + x) + c] / 127.5 - 1;
  return values;
}

/** Inverse of `toSigned`: writes a part of an image. */
function fromSigned(image, [left, top, width, height], values) {
  for (let c = 0, i = 0; c < 3; c++)
    for (let y = top; y < top + height; y++)
      for (let x = left; x < left + width; x++)
        image.data[4 * (y * image.width + x) + c] = Math.round((values[i++] + 1) * 127.5);
}

/** A completion as a PNG that says what it is and how to generate it again. */
async function toPng(original, hidden, seed, runtime) {
  const canvas = new OffscreenCanvas(model.width, model.height);
  const image = new ImageData(original.data.slice(), model.width, model.height);
  fromSigned(image, half(model.hidden_half), hidden);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return withText(await canvas.convertToBlob(), { ...model.png_text, seed, runtime });
}

const ask = (message) => new Promise((resolve) => {
  answer = resolve;
  worker.postMessage(message);
});

async function completeAll() {
  const number = whole("number"), first = whole("seed");
  if (number === null || first === null) return;
  const original = framed(), known = toSigned(original, half(model.known_half)), started = performance.now();
  clear();
  const canvas = at("original");
  [canvas.width, canvas.height] = [model.width, model.height];
  canvas.getContext("2d").putImageData(original, 0, 0);
  at("results").hidden = false;
  running = true;
  enable();
  say(`0 of ${number} completions`);
  let stopped = false;
  for (let k = 0; k < number && !stopped; k++) {
    const { hidden, error } = await ask({ known, seed: first + k });
    if (error) say(`This failed: ${error}`);
    stopped = !hidden;
    if (hidden) show(first + k, await toPng(original, hidden, first + k, runtime));
    if (hidden) say(`${k + 1} of ${number} completions`);
    else if (!error) say(`Stopped after ${k} of ${number} completions.`);
  }
  const seconds = (performance.now() - started) / 1000;
  if (!stopped) say(`${number} of ${number} completions in ${seconds.toFixed(1)} s`);
  running = false;
  at("progress").value = stopped ? 0 : 1;
  enable();
}

function show(seed, blob) {
  const face = { seed, blob, url: URL.createObjectURL(blob) };
  const button = document.createElement("button"), image = document.createElement("img");
  button.type = "button";
  button.setAttribute("aria-label", `Completion with seed ${seed}`);
  button.setAttribute("aria-pressed", "false");
  [image.src, image.alt, image.width, image.height] = [face.url, "", model.width, model.height];
  button.append(image);
  button.addEventListener("click", () => choose(face));
  face.button = button;
  at("faces").append(button);
  faces.push(face);
  if (faces.length === 1) choose(face);
}

function choose(face) {
  for (const other of faces) other.button.setAttribute("aria-pressed", String(other === face));
  at("chosen").src = face.url;
  at("chosen").alt = `The completion with seed ${face.seed}; its ${model.hidden_half} half is invented`;
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

let ready = false, running = false, runtime = "";

function enable() {
  at("complete").disabled = !ready || !photo || running;
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
  say(`${id[0].toUpperCase()}${id.slice(1)} must be a whole number from ${min} to ${max}.`);
  return null;
}

function hear({ data }) {
  if (data.loading) {
    at("progress").value = data.loading;
    say(`Loading the model: ${Math.round(data.loading * 100)} %`);
  } else if (data.step) {
    at("progress").value = (faces.length + data.step / model.steps.length) / Number(at("number").value);
  } else if (data.ready) {
    ready = true;
    runtime = `onnxruntime-web ${model.runtime} ${data.backend}, ${data.threads} thread${data.threads > 1 ? "s" : ""}`;
    at("progress").value = 0;
    at("status").dataset.runtime = runtime;
    say("Ready. Choose a photo, then press Complete.");
    enable();
  } else if (answer) {
    answer(data);
    answer = null;
  } else if (data.error) {
    say(`The model could not be started: ${data.error}.`);
  }
}

/** The worker runs a blob of one line, because only then does it inherit the policy of index.html. */
function startWorker() {
  const line = `import ${JSON.stringify(new URL("sampler.js", import.meta.url).href)};`;
  worker = new Worker(URL.createObjectURL(new Blob([line], { type: "text/javascript" })), { type: "module" });
  worker.addEventListener("message", hear);
  worker.addEventListener("error", (event) => hear({ data: { error: event.message || "its worker did not start" } }));
}

async function start() {
  if (typeof WebAssembly !== "object" || typeof DecompressionStream !== "function") {
    say("This browser cannot run the model: it has no WebAssembly, or is too old. Please use a current browser.");
    return;
  }
  model = await (await fetch("model.json")).json();
  for (const span of document.querySelectorAll(".known")) span.textContent = model.known_half;
  for (const span of document.querySelectorAll(".hidden")) span.textContent = model.hidden_half;
  at("model").textContent = `Model: ${model.name}, ${model.width} × ${model.height} pixels.`;
  at("cover").className = model.hidden_half;
  at("frame").classList.add("empty");
  [at("photo").width, at("photo").height] = [PREVIEW * model.width, PREVIEW * model.height];
  listenToPhoto();
  listenToCamera();
  at("complete").addEventListener("click", completeAll);
  at("stop").addEventListener("click", () => worker.postMessage({ stop: true }));
  at("another").addEventListener("click", () => {
    at("seed").value = crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000;
  });
  at("download-all").addEventListener("click", downloadAll);
  startWorker();
}

start().catch((error) => say(`The page could not be started: ${error.message}.`));
