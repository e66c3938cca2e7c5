// Files for the visitor: text in PNGs, zip archives.

const utf8 = new TextEncoder();

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

export function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = CRC[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/** A PNG with texts by keyword, in iTXt chunks (PNG specification, 11.3.4.5) after its header. */
export async function withText(png, texts) {
  const data = new Uint8Array(await png.arrayBuffer()), header = 8 + 12 + 13;
  const chunks = Object.entries(texts).map(([key, text]) => {
    const body = utf8.encode(`iTXt${key}\0\0\0\0\0${text}`), chunk = new Uint8Array(body.length + 8);
    const view = new DataView(chunk.buffer);
    view.setUint32(0, body.length - 4);
    chunk.set(body, 4);
    view.setUint32(body.length + 4, crc32(body));
    return chunk;
  });
  return new Blob([data.subarray(0, header), ...chunks, data.subarray(header)], { type: "image/png" });
}

/** A zip archive (APPNOTE 4.3) of [name, blob] pairs, which are not compressed. */
export async function zip(files) {
  const parts = [], directory = [];
  let place = 0;
  for (const [name, blob] of files) {
    const data = new Uint8Array(await blob.arrayBuffer()), label = utf8.encode(name);
    const sizes = [[4, crc32(data)], [4, data.length], [4, data.length], [2, label.length], [2, 0]];
    const shared = [[2, 20], [2, 0x800], [2, 0], [2, 0], [2, 33], ...sizes]; // version, UTF-8, stored, 1980-01-01
    parts.push(fields([4, 0x04034b50], ...shared), label, data);
    directory.push(fields([4, 0x02014b50], [2, 20], ...shared, [2, 0], [2, 0], [2, 0], [4, 0], [4, place]), label);
    place += 30 + label.length + data.length;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0), number = files.length;
  const end = fields([4, 0x06054b50], [2, 0], [2, 0], [2, number], [2, number], [4, size], [4, place], [2, 0]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

/** [bytes, value] pairs, little-endian. */
function fields(...pairs) {
  return Uint8Array.from(pairs.flatMap(([bytes, value]) => Array.from({ length: bytes }, (_, i) => value >>> (8 * i))));
}
