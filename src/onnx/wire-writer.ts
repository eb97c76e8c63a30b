/**
 * The protobuf wire format, written.
 *
 * Small pieces gather in a scratch array; large ones are kept by reference until the end, so that the
 * elements of a weight are copied once, into the finished file.
 */

const VARINT = 0;
const BYTES = 2;
const FIXED32 = 5;

/** From this many bytes on, a piece is referred to and not copied. */
const LARGE = 512;

/** Room for a small message; one that needs more goes on in a larger scratch array. */
const FIRST_SCRATCH = 64;
const SCRATCH = 4096;

const utf8 = new TextEncoder();

/** The bytes of one message, grown field by field. */
export class WireWriter {
  private readonly chunks: Uint8Array[] = [];
  private chunked = 0;
  private scratch: Uint8Array = new Uint8Array(FIRST_SCRATCH);
  private used = 0;

  /** Number of bytes so far. */
  get length(): number {
    return this.chunked + this.used;
  }

  /** A varint field; negative numbers take ten bytes, as protobuf writes them. */
  int(field: number, value: number | bigint): this {
    return this.tag(field, VARINT).varint(value);
  }

  /** A 32-bit float field. */
  float(field: number, value: number): this {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setFloat32(0, value, true);
    return this.tag(field, FIXED32).raw(bytes);
  }

  /** A length-delimited field of raw bytes, which must not change until `finish`. */
  bytes(field: number, value: Uint8Array): this {
    return this.tag(field, BYTES).varint(value.length).raw(value);
  }

  /** A text field. */
  text(field: number, value: string): this {
    return this.bytes(field, utf8.encode(value));
  }

  /** A nested message, as far as it is written. */
  message(field: number, value: WireWriter): this {
    this.tag(field, BYTES).varint(value.length);
    for (const chunk of value.chunks) this.raw(chunk);
    return this.raw(value.scratch.subarray(0, value.used));
  }

  /** A bare varint without a tag: an integer of 64 bits, signed or not. */
  varint(value: number | bigint): this {
    this.reserve(10);
    if (typeof value === 'bigint' || !(value >= 0)) {
      let rest = BigInt.asUintN(64, BigInt(value));
      for (; rest > 0x7fn; rest >>= 7n) this.scratch[this.used++] = Number(rest & 0x7fn) | 0x80;
      this.scratch[this.used++] = Number(rest);
    } else {
      // Division and not shifts, which end at 32 bits.
      let rest = value;
      for (; rest > 0x7f; rest = Math.floor(rest / 128)) {
        this.scratch[this.used++] = (rest % 128) | 0x80;
      }
      this.scratch[this.used++] = rest;
    }
    return this;
  }

  /** Bytes as they are, which must not change until `finish`. */
  raw(bytes: Uint8Array): this {
    if (bytes.length < LARGE) {
      this.reserve(bytes.length);
      this.scratch.set(bytes, this.used);
      this.used += bytes.length;
    } else {
      this.flush();
      this.chunks.push(bytes);
      this.chunked += bytes.length;
    }
    return this;
  }

  /** The message's bytes. */
  finish(): Uint8Array {
    const bytes = new Uint8Array(this.length);
    let at = 0;
    for (const chunk of this.chunks) {
      bytes.set(chunk, at);
      at += chunk.length;
    }
    bytes.set(this.scratch.subarray(0, this.used), at);
    return bytes;
  }

  private tag(field: number, wire: number): this {
    return this.varint(field * 8 + wire);
  }

  private reserve(count: number): void {
    if (this.scratch.length - this.used >= count) return;
    this.flush();
    this.scratch = new Uint8Array(SCRATCH);
  }

  /** Closes what was gathered; the rest of the scratch array is used on. */
  private flush(): void {
    if (this.used === 0) return;
    this.chunks.push(this.scratch.subarray(0, this.used));
    this.chunked += this.used;
    this.scratch = this.scratch.subarray(this.used);
    this.used = 0;
  }
}
