/**
 * The part of ONNX Runtime this library uses, as structural types: `import * as ort from` any of
 * `onnxruntime-node`, `onnxruntime-web`, `onnxruntime-web/wasm` or `onnxruntime-web/webgpu` fits.
 *
 * The caller injects the module, so that a bundler never meets a binary nobody asked for. Tensors are
 * made with the injected `Tensor`, and recognised by their fields: two copies of onnxruntime-common
 * in one program have two `Tensor` classes.
 */

/** A tensor of ONNX Runtime. */
export interface OrtTensor {
  /** Element type, such as `float32`. */
  readonly type: string;
  /** Length of each axis. */
  readonly dims: readonly number[];
  /** `cpu`, `cpu-pinned`, `gpu-buffer`, `texture`, `ml-tensor` or `none`. */
  readonly location: string;
  /** The elements, where `location` is `cpu`. */
  readonly data: unknown;
  /** Frees memory outside JavaScript's. */
  dispose(): void;
}

/** Makes a tensor of a dtype from its elements and shape; one of the runtime's overloads is named. */
export interface OrtTensorConstructor {
  /** A float32 tensor. */
  new (type: 'float32', data: Float32Array, dims?: readonly number[]): OrtTensor;
}

/** A loaded graph of ONNX Runtime. */
export interface OrtSession {
  /** Runs the graph on tensors by input name, to tensors by output name; all outputs or those named. */
  run(
    feeds: Record<string, never>,
    fetches: readonly string[],
  ): Promise<Readonly<Record<string, unknown>>>;
  /** Frees the session. */
  release(): Promise<void>;
}

/** The injected ONNX Runtime module. */
export interface Ort {
  /** Loads graphs. */
  readonly InferenceSession: {
    /** Loads the bytes of an ONNX file. */
    create(model: Uint8Array, options?: Record<string, unknown>): Promise<OrtSession>;
  };
  /** Makes tensors; {@link OrtTensorConstructor} for the forms that are used. */
  readonly Tensor: OrtTensorConstructor;
  /** Global settings. */
  readonly env: {
    /** Versions of the loaded packages; `node` is there in onnxruntime-node only. */
    readonly versions: {
      /** Version of onnxruntime-node. */
      readonly node?: string;
      /** Version of onnxruntime-web. */
      readonly web?: string;
    };
  };
}

/**
 * Checks that a value is an ONNX Runtime module.
 *
 * @throws TypeError when it is not
 */
export function expectOrt(value: unknown): asserts value is Ort {
  const ort = value as Partial<Ort> | null | undefined;
  if (!ort?.InferenceSession || !ort.Tensor || !ort.env?.versions) {
    throw new TypeError(
      `load: ort must be the ONNX Runtime module, got ${value === null ? 'null' : typeof value}; ` +
        "import * as ort from 'onnxruntime-node' (or -web) and pass ort",
    );
  }
}

/** Makes a tensor of any dtype. */
export function makeTensor(
  ort: Ort,
  type: string,
  data: ArrayBufferView,
  dims: readonly number[],
): OrtTensor {
  return new ort.Tensor(type as 'float32', data as Float32Array, dims);
}

/** Whether a value is a tensor of any ONNX Runtime copy. */
export function isOrtTensor(value: unknown): value is OrtTensor {
  if (typeof value !== 'object' || value === null) return false;
  const tensor = value as Partial<OrtTensor>;
  return (
    Array.isArray(tensor.dims) &&
    typeof tensor.type === 'string' &&
    typeof tensor.location === 'string'
  );
}
