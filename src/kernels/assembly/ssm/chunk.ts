/** Moving chunks of at most 16 channels between rows and the contiguous scratch of a kernel. */

/** Bytes of a chunk of 16 float32. */
export const CHUNK: usize = 64;

/** Gathers `count` channels of each of `rows` rows into chunks. */
export function gatherChunks(from: usize, stride: usize, rows: i32, count: i32, to: usize): void {
  do {
    move(from, count, to);
    from += stride;
    to += CHUNK;
  } while (--rows > 0);
}

/** Scatters chunks back to rows. */
export function scatterChunks(from: usize, rows: i32, count: i32, to: usize, stride: usize): void {
  do {
    move(from, count, to);
    from += CHUNK;
    to += stride;
  } while (--rows > 0);
}

/** `memory.copy` is a call out of the module, which a whole chunk spares. */
// @ts-ignore: decorator
@inline
function move(from: usize, count: i32, to: usize): void {
  if (count == 16) {
    v128.store(to, v128.load(from));
    v128.store(to, v128.load(from, 16), 16);
    v128.store(to, v128.load(from, 32), 32);
    v128.store(to, v128.load(from, 48), 48);
  } else {
    memory.copy(to, from, count << 2);
  }
}
