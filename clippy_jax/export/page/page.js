// What the user sees and does; the work is the worker's.

const $ = (id) => document.getElementById(id);
const LONG_SIDE = 1200; // of the canvases, in pixels
const MOST_CHOSEN = 255; // labels of one byte
const FEW = 12; // words that are all chosen from the start
const UNCOLOURED = "background";
const HEAT = [
  [13, 8, 135],
  [126, 3, 168],
  [204, 71, 120],
  [248, 149, 64],
  [240, 249, 33],
];

const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
const waiting = new Map();
let lastId = 0;

let words = [];
let colours = [];
let chosen = []; // places in `words`
let image = null; // {name, width, height, rows, columns, bitmap}
let segments = null; // {labels, shares} of `chosen`

/** Has the worker do a task; rejects with an error to show. */
function ask(task, values = {}) {
  return new Promise((resolve, reject) => {
    waiting.set(++lastId, { resolve, reject });
    worker.postMessage({ id: lastId, task, ...values });
  });
}

worker.onmessage = ({ data }) => {
  if ("loaded" in data) {
    const megabytes = (bytes) => Math.round(bytes / 1e6);
    $("status").textContent = `Loading the model: ${megabytes(data.loaded)} of ${megabytes(data.total)} MB…`;
    return;
  }
  const { resolve, reject } = waiting.get(data.id);
  waiting.delete(data.id);
  if ("error" in data) reject(new Error(data.error));
  else resolve(data.result);
};
worker.onerror = () => showError("The page's worker cannot start; copy the whole folder again, or update the browser.");

function showError(text) {
  $("error").textContent = text;
  $("error").hidden = !text;
}

// ------------------------------------------------------------------------------------------------------ the image

async function open(file) {
  showError("");
  const before = $("status").textContent;
  $("status").textContent = `Looking at ${file.name}…`;
  try {
    image = { name: file.name, ...(await ask("open", { file })) };
  } catch (error) {
    $("status").textContent = before;
    showError(error.message);
    return;
  }
  const scale = Math.min(1, LONG_SIDE / Math.max(image.width, image.height));
  for (const canvas of [$("photo"), $("overlay")]) {
    canvas.width = Math.max(1, Math.round(image.width * scale));
    canvas.height = Math.max(1, Math.round(image.height * scale));
    canvas.hidden = false;
  }
  // A small image is enlarged by a whole number, so that its pixels stay even.
  const enlarged = Math.max(1, Math.floor(480 / Math.max(image.width, image.height)));
  $("photo").style.width = enlarged > 1 ? `${enlarged * image.width}px` : "";
  $("photo").getContext("2d").drawImage(image.bitmap, 0, 0, $("photo").width, $("photo").height);
  $("stage").classList.remove("empty");
  $("invitation").hidden = true;
  $("tools").hidden = $("suggest").hidden = false;
  if (chosen.length) await update();
  else await suggest();
}

/** Chooses the words that fit the image best. */
async function suggest() {
  try {
    chosen = await ask("suggest");
  } catch (error) {
    showError(error.message);
  }
  await update();
}

/** Segments the image by the chosen words and shows it. */
async function update() {
  closePatch();
  segments = null;
  showWords();
  if (image && chosen.length) {
    const asked = [...chosen];
    try {
      const answer = await ask("segment", { chosen: asked });
      if (asked.join() !== chosen.join()) return; // the words have changed since
      segments = answer;
    } catch (error) {
      showError(error.message);
    }
  }
  showWords();
  showSegments();
}

function showSegments() {
  const canvas = $("overlay");
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (!image) return;
  $("status").textContent = segments
    ? `${image.name}, ${image.width} × ${image.height} pixels. Click a patch to see what it is like.`
    : "Add a word to see where it is.";
  if (!segments) return;
  const painted = context.createImageData(canvas.width, canvas.height);
  const label = (x, y) =>
    segments.labels[
      Math.floor(((y + 0.5) * image.height) / canvas.height) * image.width +
        Math.floor(((x + 0.5) * image.width) / canvas.width)
    ];
  const palette = chosenColours();
  for (let y = 0, at = 0; y < canvas.height; y++) {
    for (let x = 0; x < canvas.width; x++, at += 4) {
      const here = label(x, y);
      const border =
        (x + 1 < canvas.width && label(x + 1, y) !== here) || (y + 1 < canvas.height && label(x, y + 1) !== here);
      const colour = border ? [255, 255, 255] : palette[here];
      painted.data.set(colour ? [...colour, 255] : [0, 0, 0, 0], at);
    }
  }
  context.putImageData(painted, 0, 0);
}

/** Colours tell more over grey; without them the image shows its own. */
function showOpacity() {
  const opacity = Number($("opacity").value);
  $("overlay").style.opacity = opacity;
  $("photo").style.filter = opacity > 0 ? "grayscale(1)" : "none";
}

/** The colour of each chosen word, in their order; none for the background. */
function chosenColours() {
  let used = 0;
  return chosen.map((word) => (words[word] === UNCOLOURED ? null : colours[used++]));
}

// ------------------------------------------------------------------------------------------------------ the words

function showWords() {
  const palette = chosenColours();
  $("chosen").replaceChildren(
    ...chosen.map((word, place) => {
      const swatch = element("i", "swatch");
      swatch.style.background = palette[place] ? `rgb(${palette[place].join(" ")})` : "transparent";
      const share = element("span", "number", segments ? `${(100 * segments.shares[place]).toFixed(1)} %` : "");
      const remove = element("button", "remove", "×");
      remove.type = "button";
      remove.setAttribute("aria-label", `Remove ${words[word]}`);
      remove.onclick = () => {
        chosen = chosen.filter((other) => other !== word);
        update();
      };
      const item = element("li");
      item.append(swatch, element("span", "", words[word]), share, remove);
      return item;
    }),
  );
}

function add(text) {
  const wanted = text.trim().replace(/\s+/g, " ");
  const exact = words.indexOf(wanted);
  const word = exact >= 0 ? exact : words.findIndex((known) => known.toLowerCase() === wanted.toLowerCase());
  if (!wanted) return "Type a word first.";
  if (word < 0) return `“${wanted}” is not among the ${words.length} words that this page was made with.`;
  if (chosen.includes(word)) return `“${words[word]}” is there already.`;
  if (chosen.length >= MOST_CHOSEN) return `${MOST_CHOSEN} words are the most at a time; remove one first.`;
  chosen = [...chosen, word];
  update();
  return "";
}

// ------------------------------------------------------------------------------------------------------ a patch

async function openPatch(row, column) {
  let answer;
  try {
    answer = await ask("patch", { row, column, names: 6 });
  } catch (error) {
    return showError(error.message);
  }
  const { rows, columns } = image;
  const low = Math.min(...answer.likeness);
  const grid = new ImageData(columns, rows);
  answer.likeness.forEach((value, i) => grid.data.set([...heat((value - low) / (1 - low || 1)), 255], 4 * i));
  const small = new OffscreenCanvas(columns, rows);
  small.getContext("2d").putImageData(grid, 0, 0);
  const canvas = $("overlay");
  canvas.getContext("2d").drawImage(small, 0, 0, canvas.width, canvas.height);
  Object.assign($("mark").style, {
    left: `${(100 * column) / columns}%`,
    top: `${(100 * row) / rows}%`,
    width: `${100 / columns}%`,
    height: `${100 / rows}%`,
  });
  $("names").replaceChildren(
    ...answer.names.map(({ word, cosine }) => {
      const bar = element("div", "bar");
      bar.append(element("i"));
      bar.firstChild.style.width = `${100 * Math.max(0, Math.min(1, cosine))}%`;
      const item = element("li");
      item.append(element("span", "", word), bar, element("span", "number", cosine.toFixed(2)));
      return item;
    }),
  );
  $("mark").hidden = $("patch").hidden = false;
}

function closePatch() {
  $("mark").hidden = $("patch").hidden = true;
}

/** The colour of a share in [0, 1]. */
function heat(share) {
  const at = Math.min(Math.max(share, 0), 1) * (HEAT.length - 1);
  const low = Math.min(Math.floor(at), HEAT.length - 2);
  return HEAT[low].map((value, i) => value + (HEAT[low + 1][i] - value) * (at - low));
}

// ------------------------------------------------------------------------------------------------------ saving

function save(blob, ending) {
  const link = element("a");
  link.href = URL.createObjectURL(blob);
  link.download = image.name.replace(/\.[^.]*$/, "") + ending;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

async function saveOverlay() {
  const { width, height } = $("photo");
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  context.filter = $("photo").style.filter;
  context.drawImage($("photo"), 0, 0);
  context.filter = "none";
  context.globalAlpha = Number($("opacity").value);
  context.drawImage($("overlay"), 0, 0);
  save(await canvas.convertToBlob(), "_overlay.png");
}

async function saveLabels() {
  if (!segments) return;
  const canvas = new OffscreenCanvas(image.width, image.height);
  const grey = new ImageData(image.width, image.height);
  const pixels = new Uint32Array(grey.data.buffer);
  segments.labels.forEach((label, i) => (pixels[i] = 0xff000000 | (label * 0x010101)));
  canvas.getContext("2d").putImageData(grey, 0, 0);
  save(await canvas.convertToBlob(), "_labels.png");
}

function saveJson() {
  if (!segments) return;
  const { name, width, height } = image;
  const list = chosen.map((word, place) => ({ word: words[word], label: place, share: segments.shares[place] }));
  const text = JSON.stringify({ image: name, width, height, words: list }, null, 2);
  save(new Blob([text + "\n"], { type: "application/json" }), "_segments.json");
}

// ------------------------------------------------------------------------------------------------------ the start

function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

function listen() {
  $("stage").onclick = (event) => {
    if (!image) return $("file").click();
    const box = $("stage").getBoundingClientRect();
    const row = Math.floor(((event.clientY - box.top) / box.height) * image.rows);
    const column = Math.floor(((event.clientX - box.left) / box.width) * image.columns);
    if (row >= 0 && row < image.rows && column >= 0 && column < image.columns) openPatch(row, column);
  };
  $("stage").onkeydown = (event) => {
    if (!image && (event.key === "Enter" || event.key === " ")) $("file").click();
  };
  $("file").onchange = () => {
    if ($("file").files.length) open($("file").files[0]);
    $("file").value = "";
  };
  document.ondragover = (event) => {
    event.preventDefault();
    $("stage").classList.add("over");
  };
  document.ondragleave = () => $("stage").classList.remove("over");
  document.ondrop = (event) => {
    event.preventDefault();
    $("stage").classList.remove("over");
    if (event.dataTransfer.files.length) open(event.dataTransfer.files[0]);
  };
  $("another").onclick = () => $("file").click();
  $("opacity").oninput = showOpacity;
  showOpacity();
  $("add").onsubmit = (event) => {
    event.preventDefault();
    $("hint").textContent = add($("word").value);
    if (!$("hint").textContent) $("word").value = "";
  };
  $("suggest").onclick = suggest;
  $("back").onclick = () => {
    closePatch();
    showSegments();
  };
  $("save-overlay").onclick = saveOverlay;
  $("save-labels").onclick = saveLabels;
  $("save-json").onclick = saveJson;
}

async function start() {
  $("status").textContent = "Loading the model…";
  try {
    ({ words, colours } = await ask("start"));
  } catch (error) {
    $("status").textContent = "";
    return showError(error.message);
  }
  $("known").replaceChildren(...words.map((word) => Object.assign(element("option"), { value: word })));
  if (words.length <= FEW) chosen = [...words.keys()];
  $("word").disabled = false;
  $("hint").textContent = `${words.length} words to choose from`;
  $("status").textContent = "Ready.";
  showWords();
  listen();
}

start();
