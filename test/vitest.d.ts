import 'vitest';

declare module 'vitest' {
  // biome-ignore lint/suspicious/noExplicitAny: must repeat the signature that it merges with
  interface Matchers<T = any> {
    /**
     * Elementwise `|actual - expected| <= atol + rtol * |expected|`, as numpy.allclose.
     * Defaults: `rtol` 1e-5, `atol` 1e-8. NaN equals only NaN, an infinity only itself.
     */
    toBeAllclose(expected: ArrayLike<number>, options?: { rtol?: number; atol?: number }): void;
    /** The same array type, length and bits: tells -0 from 0 and one NaN from another. */
    toBeBitEqual(expected: ArrayLike<number>): void;
  }
}
