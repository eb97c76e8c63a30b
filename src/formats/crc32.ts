/** CRC-32 as zip files carry it: the reflected polynomial 0xEDB88320. */

const TABLES = 8;
const table: Uint32Array = /* @__PURE__ */ makeTable();

/** @returns the checksum of all bytes, unsigned */
export function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  let i = 0;
  for (const end = bytes.length - 7; i < end; i += 8) {
    const low =
      crc ^ (bytes[i] | (bytes[i + 1] << 8) | (bytes[i + 2] << 16) | (bytes[i + 3] << 24));
    crc =
      table[1792 + (low & 0xff)] ^
      table[1536 + ((low >>> 8) & 0xff)] ^
      table[1280 + ((low >>> 16) & 0xff)] ^
      table[1024 + (low >>> 24)] ^
      table[768 + bytes[i + 4]] ^
      table[512 + bytes[i + 5]] ^
      table[256 + bytes[i + 6]] ^
      table[bytes[i + 7]];
  }
  for (; i < bytes.length; i++) crc = (crc >>> 8) ^ table[(crc ^ bytes[i]) & 0xff];
  return ~crc >>> 0;
}

/** Table k advances a byte by k further zero bytes, so that eight bytes go in one step. */
function makeTable(): Uint32Array {
  const entries = new Uint32Array(256 * TABLES);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
    entries[byte] = crc;
  }
  for (let i = 256; i < entries.length; i++) {
    const crc = entries[i - 256];
    entries[i] = (crc >>> 8) ^ entries[crc & 0xff];
  }
  return entries;
}
