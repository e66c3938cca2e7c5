// The model, in a worker: loads ONNX Runtime and the network, and generates hidden halves.
//
// It is sent {known, seed} and answers {hidden, seed}, with {step} after each step; or {stop: true}.
// While it loads it says {loading}, from 0 to 1; then {ready, backend, threads}, or {error}.

import { normalNoise } from "./noise.js";

const RUNTIMES = { // of onnxruntime-web: its module for each backend, and the WebAssembly that goes with it
  webgpu: ["ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify"],
  wasm: ["ort.wasm.min.mjs", "ort-wasm-simd-threaded"],
};
const MOST_THREADS = 4;
const TOLERANCE = 0.01; // of the network's prediction, between here and where the page was made
const here = (name) => new URL(name, import.meta.url).href;

let model, ort, session, stopped = false;
let loaded = 0, total = 1; // bytes

async function load(name) {
  const response = await fetch(here(name)).catch(() => ({ ok: false, status: "no connection" }));
  if (!response.ok) throw new Error(`${name} could not be loaded (${response.status})`);
  const count = new TransformStream({
    transform(chunk, to) {
      loaded += chunk.byteLength;
      postMessage({ loading: Math.min(1, loaded / total) });
      to.enqueue(chunk);
    },
  });
  const data = new Uint8Array(await new Response(response.body.pipeThrough(count)).arrayBuffer());
  // Some servers decompress .gz on the way, most do not.
  if (!name.endsWith(".gz") || data[0] !== 0x1f || data[1] !== 0x8b) return data;
  const unpacked = new Blob([data]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(unpacked).arrayBuffer());
}

async function open(backend, network) {
  const [module, binary] = RUNTIMES[backend];
  ort = await import(here(`runtime/${module}`));
  ort.env.logLevel = "error";
  ort.env.wasm.numThreads = crossOriginIsolated ? Math.min(MOST_THREADS, navigator.hardwareConcurrency) : 1;
  ort.env.wasm.wasmPaths = { mjs: here(`runtime/${binary}.mjs`) };
  ort.env.wasm.wasmBinary = (await load(`runtime/${binary}.wasm.gz`)).buffer;
  session = await ort.InferenceSession.create(network, { executionProviders: [backend] });
  await check();
  postMessage({ ready: true, backend, threads: ort.env.wasm.numThreads });
}

/** Compares a prediction with the one stored in model.json; drivers of graphics cards can be wrong. */
async function check() {
  const { seed, values } = model.check, count = model.shape[0] * model.shape[1] * model.shape[2];
  const noise = fromCanonical(normalNoise(seed, count));
  const prediction = await predict(noise, new Float32Array(count), model.steps[0].timestep);
  const every = Math.floor(count / values.length);
  const worst = Math.max(...values.map((value, i) => Math.abs(prediction[i * every] - value)));
  if (!(worst <= TOLERANCE)) throw new Error(`the network computes something else here (off by ${worst})`);
}

async function start() {
  model = await (await fetch(here("model.json"))).json();
  const gpu = await navigator.gpu?.requestAdapter().catch(() => null);
  total = model.download_bytes[gpu ? "webgpu" : "wasm"];
  const network = await load("network.onnx");
  if (gpu) {
    try {
      return await open("webgpu", network);
    } catch (error) {
      console.warn("WebGPU does not work here; WebAssembly is used", error);
    }
  }
  await open("wasm", network);
}

async function predict(noisy, known, timestep) {
  const shape = [1, ...model.shape];
  const feeds = {
    noisy: new ort.Tensor("float32", noisy, shape),
    known: new ort.Tensor("float32", known, shape),
    timestep: new ort.Tensor("float32", [timestep], [1]),
  };
  const { prediction } = await session.run(feeds);
  const values = prediction.data;
  prediction.dispose();
  return values;
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
  let x = fromCanonical(normalNoise(seed, known.length)), p = new Float32Array(known.length);
  for (const [index, step] of model.steps.entries()) {
    const o = await predict(x, known, step.timestep), next = new Float32Array(x.length);
    for (let i = 0; i < x.length; i++) {
      next[i] = step.next_x * x[i] + step.next_o * o[i] + step.next_p * p[i];
      p[i] = step.clean_x * x[i] + step.clean_o * o[i];
    }
    x = next;
    postMessage({ step: index + 1 });
    await new Promise((resolve) => setTimeout(resolve)); // lets a message to stop arrive
    if (stopped) return null;
  }
  return x;
}

addEventListener("message", async ({ data }) => {
  stopped = Boolean(data.stop);
  if (data.stop) return;
  try {
    postMessage({ hidden: await complete(data.known, data.seed), seed: data.seed });
  } catch (error) {
    postMessage({ error: String(error.message ?? error) });
  }
});

start().catch((error) => postMessage({ error: String(error.message ?? error) }));
