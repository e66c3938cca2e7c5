// Loads the model once and runs it in workers: one on a GPU or with threads, two where neither is there.

const MOST_THREADS = 4, MOST_WORKERS = 2;

export class Model {
  /** Loads everything; `report` is called with the loaded part, from 0 to 1. Throws a line for the visitor. */
  static async load(report) {
    const facts = await (await get("model.json")).json();
    let gpu = await navigator.gpu?.requestAdapter().catch(() => null);
    if (gpu?.info?.isFallbackAdapter) gpu = null; // WebGPU in software is slower than WebAssembly
    let loaded = 0;
    const load = (name, total) => bytes(name, (count) => report(Math.min(1, (loaded += count) / total)));
    const network = await load("network.onnx", facts.runtime[gpu ? "webgpu" : "wasm"].download_bytes);
    const open = async (backend, workers, threads) => {
      const { binary, download_bytes: total } = facts.runtime[backend];
      const start = { model: facts, network, binary: await load(`runtime/${binary}`, total), backend, threads };
      return new Model(facts, `${backend}, ${workers} × ${threads}`, await startWorkers(workers, start));
    };
    if (gpu) {
      try {
        return await open("webgpu", 1, 1);
      } catch (error) {
        console.warn("WebGPU does not work here; WebAssembly is used.", error);
      }
    }
    const cores = navigator.hardwareConcurrency || 1;
    return crossOriginIsolated
      ? open("wasm", 1, Math.min(MOST_THREADS, cores))
      : open("wasm", Math.min(MOST_WORKERS, cores), 1);
  }

  /** facts: model.json; runs: backend, workers and threads of each. */
  constructor(facts, runs, workers) {
    Object.assign(this, { facts, runs, workers, stopped: false });
  }

  /**
   * Generates the hidden half of each seed: calls found(seed, Float32Array in [-1, 1] or beyond) in the order in which
   * they are done, and step() after each step. Resolves when all are done or stopped; throws what a worker reports.
   */
  async complete(known, seeds, found, step) {
    this.stopped = false;
    const waiting = [...seeds];
    await Promise.all(this.workers.map(async (worker) => {
      while (waiting.length && !this.stopped) {
        const seed = waiting.shift(), { hidden, error } = await ask(worker, { known, seed }, step);
        if (error) {
          this.stop();
          throw new Error(error);
        }
        if (hidden) await found(seed, hidden);
      }
    }));
  }

  stop() {
    this.stopped = true;
    for (const worker of this.workers) worker.postMessage({ stop: true });
  }
}

async function get(name) {
  const response = await fetch(new URL(name, import.meta.url)).catch(() => ({ ok: false, status: "no connection" }));
  if (!response.ok) throw new Error(`${name} could not be loaded (${response.status})`);
  return response;
}

/** The bytes of a file, decompressed where the server has not done so. */
async function bytes(name, report) {
  const count = new TransformStream({
    transform(chunk, to) {
      report(chunk.byteLength);
      to.enqueue(chunk);
    },
  });
  const data = await new Response((await get(name)).body.pipeThrough(count)).arrayBuffer();
  const [first, second] = new Uint8Array(data);
  if (first !== 0x1f || second !== 0x8b) return new Uint8Array(data);
  const unpacked = new Blob([data]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(unpacked).arrayBuffer());
}

async function startWorkers(number, start) {
  // A worker inherits the policy of index.html only if its script is a blob.
  const line = `import ${JSON.stringify(new URL("sampler.js", import.meta.url).href)};`;
  const url = URL.createObjectURL(new Blob([line], { type: "text/javascript" }));
  const workers = Array.from({ length: number }, () => new Worker(url, { type: "module" }));
  const answers = await Promise.all(workers.map((worker) => ask(worker, start)));
  URL.revokeObjectURL(url);
  const failed = answers.find((answer) => answer.error);
  if (!failed) return workers;
  for (const worker of workers) worker.terminate();
  throw new Error(failed.error);
}

/** Sends a message and resolves with the answer; {step} calls `step` and is none. */
function ask(worker, message, step = () => {}) {
  return new Promise((resolve) => {
    worker.onmessage = ({ data }) => (data.step ? step() : resolve(data));
    worker.onerror = (event) => resolve({ error: event.message || "a worker did not start" });
    worker.postMessage(message);
  });
}
