// A worker that generates hidden halves with ONNX Runtime.
//
// First it is sent {model, network, binary, backend, threads}: model.json, the bytes of the network and of the runtime's
// WebAssembly; it answers {ready} or {error}. Then it is sent {known, seed} and answers {hidden} or {error}, with {step}
// after each step; {stop} makes the answer {hidden: null}.

import { normalNoise } from "./noise.js";

const TOLERANCE = 0.01; // of the network's prediction, between here and where the page was made
const here = (name) => new URL(`runtime/${name}`, import.meta.url).href;

let model, ort, session, stopped = false;

async function open({ network, binary, backend, threads, ...rest }) {
  model = rest.model;
  const { module, loader } = model.runtime[backend];
  ort = await import(here(module));
  ort.env.logLevel = "error";
  Object.assign(ort.env.wasm, { numThreads: threads, wasmPaths: { mjs: here(loader) }, wasmBinary: binary.buffer });
  session = await ort.InferenceSession.create(network, { executionProviders: [backend] });
  ort.env.wasm.wasmBinary = undefined; // 14 MB or more that are no longer needed
  await check();
}

/** Compares a prediction with the one stored in model.json; drivers of graphics cards can be wrong. */
async function check() {
  const { seed, values } = model.check, count = model.shape[0] * model.shape[1] * model.shape[2];
  const noise = fromCanonical(normalNoise(seed, count));
  const prediction = await predict(noise, new Float32Array(count), model.steps[0].timestep);
  const every = Math.floor(count / values.length);
  const worst = Math.max(...values.map((value, i) => Math.abs(prediction[i * every] - value)));
  if (!(worst <= TOLERANCE)) throw new Error(`the network computes something else here, off by ${worst}`);
}

async function predict(noisy, known, timestep) {
  const shape = [1, ...model.shape];
  const { prediction } = await session.run({
    noisy: new ort.Tensor("float32", noisy, shape),
    known: new ort.Tensor("float32", known, shape),
    timestep: new ort.Tensor("float32", [timestep], [1]),
  });
  return prediction.data;
}

/** Quarter turns, counter-clockwise, from the orientation the noise is laid out in to that of the image. */
function fromCanonical(values) {
  let [channels, height, width] = model.shape;
  if (model.quarter_turns % 2) [height, width] = [width, height];
  for (let turn = 0; turn < model.quarter_turns; turn++) {
    const turned = new Float32Array(values.length);
    for (let c = 0, i = 0; c < channels; c++)
      for (let y = 0; y < height; y++)
        for (let x = 0; x < width; x++) turned[(c * width + width - 1 - x) * height + y] = values[i++];
    values = turned;
    [height, width] = [width, height];
  }
  return values;
}

/** DPM-Solver++(2M); every coefficient comes from model.json, see `sampling_plan` of halfface_pipeline. */
async function complete(known, seed) {
  let x = fromCanonical(normalNoise(seed, known.length));
  const p = new Float32Array(known.length); // the clean half that the step before predicted
  for (const step of model.steps) {
    const o = await predict(x, known, step.timestep), next = new Float32Array(x.length);
    for (let i = 0; i < x.length; i++) {
      next[i] = step.next_x * x[i] + step.next_o * o[i] + step.next_p * p[i];
      p[i] = step.clean_x * x[i] + step.clean_o * o[i];
    }
    x = next;
    postMessage({ step });
    await new Promise((resolve) => setTimeout(resolve)); // lets a message to stop arrive
    if (stopped) return null;
  }
  return x;
}

addEventListener("message", async ({ data }) => {
  stopped = Boolean(data.stop);
  try {
    if (data.network) {
      await open(data);
      postMessage({ ready: true });
    } else if (data.known) {
      postMessage({ hidden: await complete(data.known, data.seed) });
    }
  } catch (error) {
    postMessage({ error: String(error.message ?? error) });
  }
});
