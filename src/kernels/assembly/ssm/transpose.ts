/** `[rows, columns]` to `[columns, rows]`, float32, out of place. */
export function transpose(from: usize, rows: i32, columns: i32, to: usize): void {
  const fromStride: usize = columns << 2;
  const toStride: usize = rows << 2;
  const wideRows = rows & ~3;
  const wideColumns = columns & ~3;
  for (let i = 0; i < wideRows; i += 4) {
    for (let j = 0; j < wideColumns; j += 4) {
      const at = from + i * fromStride + (j << 2);
      const a = v128.load(at);
      const b = v128.load(at + fromStride);
      const c = v128.load(at + 2 * fromStride);
      const d = v128.load(at + 3 * fromStride);
      const ab = v128.shuffle<f32>(a, b, 0, 4, 1, 5);
      const cd = v128.shuffle<f32>(c, d, 0, 4, 1, 5);
      const abHigh = v128.shuffle<f32>(a, b, 2, 6, 3, 7);
      const cdHigh = v128.shuffle<f32>(c, d, 2, 6, 3, 7);
      const out = to + j * toStride + (i << 2);
      v128.store(out, v128.shuffle<f64>(ab, cd, 0, 2));
      v128.store(out + toStride, v128.shuffle<f64>(ab, cd, 1, 3));
      v128.store(out + 2 * toStride, v128.shuffle<f64>(abHigh, cdHigh, 0, 2));
      v128.store(out + 3 * toStride, v128.shuffle<f64>(abHigh, cdHigh, 1, 3));
    }
  }
  // What the tiles of four by four leave: the right edge, then the bottom.
  for (let i = 0; i < rows; i++) {
    for (let j = i < wideRows ? wideColumns : 0; j < columns; j++) {
      store<f32>(to + j * toStride + (i << 2), load<f32>(from + i * fromStride + (j << 2)));
    }
  }
}
