// The work behind the page, in a thread of its own. Each message {id, task, ...} is answered by {id, result} or
// {id, error}; while the model loads, by {loaded, total} as well.

import * as ort from "./ort.wasm.bundle.min.mjs";
import { resize } from "./resize.js";
import { dot, fedSize, labelMap, similarityMaps } from "./segment.js";

const MOST_PIXELS = 40e6;

ort.env.wasm.wasmPaths = { wasm: new URL("./ort-wasm-simd-threaded.wasm", import.meta.url).href };
ort.env.logLevel = "error";

let settings, vectors, session; // what the folder holds
let image; // {width, height, rows, columns, patches}: the one that is open

async function get(name) {
  const response = await fetch(new URL(name, import.meta.url));
  if (!response.ok) throw new Error(`${name} cannot be loaded (${response.status}); copy the whole folder again`);
  return response;
}

/** A large file, with news of how much of it has come. */
async function getSlowly(name) {
  const response = await get(name);
  const total = Number(response.headers.get("content-length"));
  const parts = [];
  let loaded = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    self.postMessage({ loaded: (loaded += value.length), total });
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

async function start() {
  settings = await (await get("words.json")).json();
  vectors = new Float32Array(await (await get("words.bin")).arrayBuffer());
  const tower = await getSlowly("image.onnx");
  session = await ort.InferenceSession.create(tower, { executionProviders: ["wasm"] });
  return { words: settings.words, colours: settings.colours };
}

/** Embeds the patches of an image file; gives back the image itself, to show. */
async function open({ file }) {
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" }).catch(() => {
    throw new Error(`${file.name} is not an image that this browser can read`);
  });
  const { width, height } = bitmap;
  if (width * height > MOST_PIXELS) {
    throw new Error(`${file.name} has ${width} x ${height} pixels; make it smaller than 40 megapixels`);
  }
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white"; // what shows through a transparent image
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  const pixels = context.getImageData(0, 0, width, height).data;
  const [fedWidth, fedHeight] = fedSize(width, height, settings);
  const fed = resize(pixels, 4, width, height, fedWidth, fedHeight);
  const images = new ort.Tensor("uint8", fed, [1, fedHeight, fedWidth, 3]);
  const { patch_embeddings } = await session.run({ images }, ["patch_embeddings"]);
  const [, rows, columns] = patch_embeddings.dims;
  image = { width, height, rows, columns, patches: patch_embeddings.data };
  return { bitmap, width, height, rows, columns };
}

/** The words of the whole list that name the most patches: at most six, each at least a fiftieth of them. */
function suggest() {
  const { words, features } = settings;
  const patches = image.rows * image.columns;
  const maps = similarityMaps(image.patches, vectors, [...words.keys()], features);
  const named = new Map();
  for (let patch = 0; patch < patches; patch++) {
    let best = 0;
    for (let word = 1; word < words.length; word++) if (maps[word][patch] > maps[best][patch]) best = word;
    named.set(best, (named.get(best) ?? 0) + 1);
  }
  const often = [...named].filter(([, count]) => count >= patches / 50).sort((a, b) => b[1] - a[1]);
  return often.slice(0, 6).map(([word]) => word);
}

/** The label map for the chosen words, and the share of the pixels that each has. */
function segment({ chosen }) {
  const { width, height, rows, columns, patches } = image;
  const labels = labelMap(similarityMaps(patches, vectors, chosen, settings.features), rows, columns, width, height);
  const counts = new Array(chosen.length).fill(0);
  for (const label of labels) counts[label]++;
  return { labels, shares: counts.map((count) => count / labels.length) };
}

/** How like a patch all the others are, and the words that name it best. */
function patch({ row, column, names }) {
  const { rows, columns, patches } = image;
  const { words, features } = settings;
  const index = row * columns + column;
  const likeness = Float32Array.from({ length: rows * columns }, (_, i) => dot(patches, i, patches, index, features));
  const cosines = words.map((word, i) => ({ word, cosine: dot(patches, index, vectors, i, features) }));
  return { likeness, names: cosines.sort((a, b) => b.cosine - a.cosine).slice(0, names) };
}

const tasks = { start, open, suggest, segment, patch };
let last = Promise.resolve(); // one task at a time

self.onmessage = ({ data: { id, task, ...values } }) => {
  last = last.then(async () => {
    try {
      self.postMessage({ id, result: await tasks[task](values) });
    } catch (error) {
      self.postMessage({ id, error: error.message ?? String(error) });
    }
  });
};
