// Photos: the size of a picture before it is decoded, decoding, and resizing.

const KINDS = "Use a JPEG, PNG, WebP, GIF or BMP picture.";
const MOST_BYTES = 64 * 2 ** 20, MOST_PIXELS = 60e6, LARGEST_SIDE = 2048;

/** Width and height from the header of a picture, or null if it is of no kind that is read. */
export function pictureSize(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const text = (from, to) => String.fromCharCode(...bytes.subarray(from, to));
  if (bytes.length < 30) return null;
  if (text(1, 4) === "PNG") return [view.getUint32(16), view.getUint32(20)];
  if (text(0, 4) === "GIF8") return [view.getUint16(6, true), view.getUint16(8, true)];
  if (text(0, 2) === "BM") return [Math.abs(view.getInt32(18, true)), Math.abs(view.getInt32(22, true))];
  if (text(0, 4) === "RIFF" && text(8, 12) === "WEBP") {
    const kind = text(12, 16), at = (place) => view.getUint32(place, true);
    if (kind === "VP8X") return [(at(24) & 0xffffff) + 1, (at(26) >>> 8) + 1];
    if (kind === "VP8L") return [(at(21) & 0x3fff) + 1, ((at(21) >>> 14) & 0x3fff) + 1];
    return [at(26) & 0x3fff, (at(26) >>> 16) & 0x3fff];
  }
  if (bytes[0] !== 0xff || bytes[1] !== 0xd8) return null;
  for (let place = 2; place + 9 < bytes.length && bytes[place] === 0xff; ) { // the segments of a JPEG
    const marker = bytes[place + 1];
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker))
      return [view.getUint16(place + 7), view.getUint16(place + 5)];
    place += marker === 0xff ? 1 : 2 + view.getUint16(place + 2);
  }
  return null;
}

/** Decodes a photo upright, at most 2048 pixels long; throws a line for the visitor. */
export async function readPhoto(file) {
  if (file.size === 0) throw new Error(`The file is empty. ${KINDS}`);
  if (file.size > MOST_BYTES) throw new Error("The file is too large: at most 64 MB are read.");
  const size = pictureSize(new Uint8Array(await file.arrayBuffer()));
  if (!size) throw new Error(`The file is not a picture that can be read. ${KINDS}`);
  if (size[0] * size[1] > MOST_PIXELS)
    throw new Error(`The picture is too large: at most ${MOST_PIXELS / 1e6} million pixels are read.`);
  try {
    const whole = await createImageBitmap(file);
    const scale = LARGEST_SIDE / Math.max(whole.width, whole.height);
    if (scale >= 1) return whole;
    const [width, height] = [whole.width, whole.height].map((side) => Math.max(1, Math.round(side * scale)));
    const small = await createImageBitmap(whole, { resizeWidth: width, resizeHeight: height, resizeQuality: "high" });
    whole.close();
    return small;
  } catch {
    throw new Error(`The picture is damaged or cut short. ${KINDS}`);
  }
}

/** ImageData resized by an antialiased Lanczos filter of 3 lobes, as Pillow does; same size, same pixels. */
export function resize(image, width, height) {
  const across = filter(image.data, image.width, width, image.height, 4, image.width * 4);
  const down = filter(across, image.height, height, width, width * 4, 4);
  const result = new ImageData(width, height);
  for (let i = 0; i < down.length; i++) result.data[i] = Math.round(down[i]); // clamped by its array
  return result;
}

/** One pass of `resize` along a direction: `step` between values along it, `stride` between its lines. */
function filter(values, from, to, lines, step, stride) {
  const scale = from / to, support = 3 * Math.max(1, scale);
  const along = step === 4, result = new Float32Array(4 * to * lines);
  for (let j = 0; j < to; j++) {
    const centre = (j + 0.5) * scale;
    const first = Math.max(0, Math.round(centre - support)), last = Math.min(from, Math.round(centre + support));
    const weights = Array.from({ length: last - first }, (_, k) => lanczos((first + k + 0.5 - centre) * 3 / support));
    const sum = weights.reduce((a, b) => a + b);
    for (let line = 0; line < lines; line++)
      for (let c = 0; c < 4; c++) {
        let value = 0;
        for (let k = 0; k < weights.length; k++) value += weights[k] * values[line * stride + (first + k) * step + c];
        result[(along ? line * to + j : j * lines + line) * 4 + c] = value / sum;
      }
  }
  return result;
}

function lanczos(x) {
  if (x === 0) return 1;
  return Math.abs(x) < 3 ? (3 * Math.sin(Math.PI * x) * Math.sin((Math.PI * x) / 3)) / (Math.PI * x) ** 2 : 0;
}
