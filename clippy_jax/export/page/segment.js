// From patch embeddings to a label for every pixel, as clippy_jax.inference does it. All embeddings have length 1.

/** Python's round: halves go to the even number. */
function roundHalfEven(x) {
  const rounded = Math.round(x);
  return x % 1 === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}

/** Width and height at which a whole image is fed: its short side at `image_size`, the long one in whole patches. */
export function fedSize(width, height, { image_size, patch_size, longest_aspect }) {
  const short = Math.min(width, height);
  const fed = (length) =>
    Math.min(roundHalfEven((image_size * length) / short / patch_size) * patch_size, longest_aspect * image_size);
  return [fed(width), fed(height)];
}

/** The cosine of every patch with each of the chosen words: for each word, a value a patch. */
export function similarityMaps(patches, vectors, chosen, features) {
  const count = patches.length / features;
  return chosen.map((word) => {
    const map = new Float32Array(count);
    for (let patch = 0; patch < count; patch++) map[patch] = dot(patches, patch, vectors, word, features);
    return map;
  });
}

/** The cosine of row `i` of `a` with row `j` of `b`. */
export function dot(a, i, b, j, features) {
  let sum = 0;
  for (let k = 0; k < features; k++) sum += a[i * features + k] * b[j * features + k];
  return sum;
}

/** Bilinear interpolation from `patches` to `length` positions: the two patches of each and the share of the second. */
function between(length, patches) {
  return Array.from({ length }, (_, i) => {
    const position = Math.min(Math.max(((i + 0.5) * patches) / length - 0.5, 0), patches - 1);
    const low = Math.floor(position);
    return { low, high: Math.min(low + 1, patches - 1), share: position - low };
  });
}

/** The index of the most similar map at every pixel of a width x height image, the first among equals. */
export function labelMap(maps, rows, columns, width, height) {
  const labels = new Uint8Array(width * height);
  const [across, down] = [between(width, columns), between(height, rows)];
  const line = new Float64Array(columns);
  const best = new Float64Array(width);
  for (let y = 0; y < height; y++) {
    const { low, high, share } = down[y];
    best.fill(-Infinity);
    maps.forEach((map, label) => {
      for (let i = 0; i < columns; i++) line[i] = (1 - share) * map[low * columns + i] + share * map[high * columns + i];
      for (let x = 0; x < width; x++) {
        const at = across[x];
        const value = (1 - at.share) * line[at.low] + at.share * line[at.high];
        if (value > best[x]) {
          best[x] = value;
          labels[y * width + x] = label;
        }
      }
    });
  }
  return labels;
}
