// Pillow's antialiased bicubic resize of 8-bit RGB, number for number, so that the model sees what it sees in Python.
// No canvas can do it: browsers resize as they like.

const BITS = 22; // of the fraction of a weight, as Pillow keeps it
const SUPPORT = 2; // reach of the bicubic kernel, in source pixels of a resize that does not shrink

function cubic(x) {
  const a = -0.5;
  x = Math.abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

/** For each of `outputs` positions: the first of the `inputs` that it reads, how many, and their fixed-point weights. */
function weights(inputs, outputs) {
  const step = inputs / outputs;
  const scale = Math.max(step, 1);
  const support = SUPPORT * scale;
  return Array.from({ length: outputs }, (_, i) => {
    const centre = (i + 0.5) * step;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const end = Math.min(inputs, Math.trunc(centre + support + 0.5));
    const values = [];
    let sum = 0;
    for (let j = first; j < end; j++) {
      const value = cubic((j - centre + 0.5) * (1 / scale));
      values.push(value);
      sum += value;
    }
    const fixed = values.map((value) => {
      const share = (sum === 0 ? value : value / sum) * 2 ** BITS;
      return Math.trunc(share < 0 ? share - 0.5 : share + 0.5);
    });
    return { first, weights: Int32Array.from(fixed) };
  });
}

const HALF = 1 << (BITS - 1);
const clip = (sum) => Math.min(255, Math.max(0, sum >> BITS));

/** Rows of `width` pixels become rows of `newWidth`; of each pixel the first three values are kept. */
function resizeRows(pixels, channels, width, height, newWidth) {
  const result = new Uint8Array(newWidth * height * 3);
  const columns = weights(width, newWidth);
  for (let y = 0, to = 0; y < height; y++) {
    for (const { first, weights } of columns) {
      let [red, green, blue] = [HALF, HALF, HALF];
      for (let k = 0, at = (y * width + first) * channels; k < weights.length; k++, at += channels) {
        red += pixels[at] * weights[k];
        green += pixels[at + 1] * weights[k];
        blue += pixels[at + 2] * weights[k];
      }
      result[to++] = clip(red);
      result[to++] = clip(green);
      result[to++] = clip(blue);
    }
  }
  return result;
}

/** `height` rows of so many values become `newHeight` rows. */
function resizeColumns(values, perRow, height, newHeight) {
  const result = new Uint8Array(perRow * newHeight);
  weights(height, newHeight).forEach(({ first, weights }, y) => {
    for (let x = 0; x < perRow; x++) {
      let sum = HALF;
      for (let k = 0, at = first * perRow + x; k < weights.length; k++, at += perRow) sum += values[at] * weights[k];
      result[y * perRow + x] = clip(sum);
    }
  });
  return result;
}

/**
 * Resizes pixels.
 * @param {Uint8Array|Uint8ClampedArray} pixels rows of pixels, of which the first three values are red, green and blue
 * @param {number} channels values of a pixel: 3 or 4
 * @returns {Uint8Array} newHeight rows of newWidth pixels of three values
 */
export function resize(pixels, channels, width, height, newWidth, newHeight) {
  const narrow = resizeRows(pixels, channels, width, height, newWidth);
  return resizeColumns(narrow, newWidth * 3, height, newHeight);
}
