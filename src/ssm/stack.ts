/// <reference lib="esnext.disposable" preserve="true" />
import { readSafetensors } from '../formats/safetensors.js';
import {
  describe,
  isNd,
  isTypedArray,
  type NdView,
  nd,
  packed,
  ShapeError,
  type TypedArray,
} from '../nd.js';
import { DisposedError } from '../runtime/errors.js';
import type { Device, DeviceFailure } from '../runtime/network.js';
import { expectOptions } from '../runtime/options.js';
import { Axes, type Reset } from './arguments.js';
import type { Engine, LoadedEngine } from './engine.js';
import { expectState, newArrays, SsmState, zeroState } from './state.js';
import { fillPart } from './state-layout.js';

/** What {@link SsmStack.scan} takes beside the inputs and the state. */
export interface StackScanOptions {
  /** `[B, L]`: 1 where a row starts anew, so that its state is overwritten by zeros before the step. */
  readonly reset?: Reset;
}

/** What {@link SsmStack.step} takes beside the inputs and the state. */
export interface StackStepOptions {
  /** `[B]`: 1 for rows that start anew; a typed array or a view of one. */
  readonly reset?: Uint8Array | NdView<TypedArray>;
}

/** What a scan gives. */
export interface StackResult {
  /** The outputs, float32, shaped as the inputs. */
  readonly y: NdView;
  /** The state after the last step, the caller's to release. */
  readonly state: SsmState;
}

/**
 * A stack of state-space layers, residual stream and norms included: embeddings in, features out.
 *
 * One contract for sequences and steps: a scan of any length, the same scan in any pieces, and its steps
 * one by one agree, from any state and with resets anywhere. States are never consumed.
 */
export abstract class SsmStack implements AsyncDisposable {
  /** Devices preferred to this stack's that failed, with the reasons. */
  readonly failures: readonly DeviceFailure[];
  readonly #engine: Engine;
  #disposal: Promise<void> | undefined;

  /** @internal */
  protected constructor(loaded: LoadedEngine) {
    if (loaded?.engine === undefined) {
      throw new TypeError('a stack must be loaded: await MambaStack.load(ort, source), not new');
    }
    this.#engine = loaded.engine;
    this.failures = loaded.failures;
  }

  /** Width of the inputs and outputs, M. */
  get dModel(): number {
    return this.#engine.dModel;
  }

  /** Number of layers. */
  get nLayers(): number {
    return this.#engine.nLayers;
  }

  /** The device the stack runs on. */
  get device(): Device {
    return this.#engine.device;
  }

  /**
   * Runs sequences.
   *
   * @param x - the inputs, `[B, L, M]` float32; L may be 0. Not to be written to before the result is there
   * @param state - where to start from, of B rows; by default zeros. It stays as it is
   * @returns y `[B, L, M]` and the new state, which the caller releases
   * @throws TypeError when an argument is of the wrong kind, or the state another stack's
   * @throws `ShapeError` when shapes disagree
   * @throws RangeError when `reset` holds anything but 0 and 1, or the kernels do not fit in their memory
   * @throws `DisposedError` when the stack is disposed or the state released
   */
  async scan(x: NdView, state?: SsmState, options: StackScanOptions = {}): Promise<StackResult> {
    expectOptions('scan', options, ['reset']);
    const axes = this.#axes('scan');
    axes.view('x', x, 'BLM');
    return this.#run('scan', x, x.shape[0], x.shape[1], state, axes.reset(options.reset));
  }

  /**
   * Runs one step; a scan of length 1.
   *
   * @param x - the inputs, `[B, M]` float32. Not to be written to before the result is there
   * @param state - where to start from, of B rows; by default zeros. It stays as it is
   * @returns y `[B, M]` and the new state, which the caller releases
   * @throws as {@link SsmStack.scan}
   */
  async step(x: NdView, state?: SsmState, options: StackStepOptions = {}): Promise<StackResult> {
    expectOptions('step', options, ['reset']);
    const axes = this.#axes('step');
    axes.view('x', x, 'BM');
    const [batch] = x.shape;
    axes.bind('L', 1);
    const { reset } = options;
    if (reset === undefined) return this.#run('step', x, batch, 1, state, undefined);
    const view = isTypedArray(reset) ? nd(reset) : reset;
    if (!isNd(view)) {
      throw new TypeError(
        `step: reset must be a Uint8Array or a view [B] of 0 and 1, got ${describe(reset)}`,
      );
    }
    if (view.shape.length !== 1 || view.shape[0] !== batch) {
      throw new ShapeError(`step: reset must have shape [B] = [${batch}], got [${view.shape}]`);
    }
    const column = { ...view, shape: [batch, 1], stride: [view.stride[0], 0] };
    return this.#run('step', x, batch, 1, state, axes.reset(column));
  }

  /**
   * A state of zeros.
   *
   * @param batch - number of rows
   * @throws RangeError when that is no non-negative integer
   * @throws `DisposedError` when the stack is disposed
   */
  initialState(batch: number): SsmState {
    this.#expectAlive('initialState');
    if (!Number.isInteger(batch) || batch < 0) {
      throw new RangeError(`initialState: batch must be a non-negative integer, got ${batch}`);
    }
    return zeroState(this.#engine.home, batch);
  }

  /**
   * A state from its arrays or its bytes, whichever device or stack of these sizes they come from.
   *
   * @param saved - what `state.serialise()` or `state.toArrays()` gave, or the same arrays of another
   *   program: `layers.{i}.conv` `[B, C, K - 1]`, or `[B, C, K]` as upstream's caches have it, whose
   *   oldest column is dropped; `layers.{i}.ssm` `[B, D, N]` or `[B, H, P, N]`
   * @throws TypeError when an array is missing, unknown or not float32
   * @throws `DisposedError` when the stack is disposed
   * @throws `ShapeError` when an array has the wrong shape
   * @throws `FormatError` when the bytes are no safetensors file
   */
  restore(saved: Uint8Array | Readonly<Record<string, NdView<TypedArray>>>): SsmState {
    const { home } = this.#engine;
    this.#expectAlive('restore');
    if (
      typeof saved !== 'object' ||
      saved === null ||
      saved instanceof ArrayBuffer ||
      saved instanceof Promise
    ) {
      throw new TypeError(
        `restore: saved must be the bytes or the arrays of a state, got ${describe(saved)}` +
          `${saved instanceof Promise ? '; await it first' : ''}`,
      );
    }
    const arrays = saved instanceof Uint8Array ? readSafetensors(saved).tensors : saved;
    const names = home.parts.map(({ name }) => name);
    const missing = names.filter((name) => arrays[name] === undefined);
    const extra = Object.keys(arrays).filter((name) => !names.includes(name));
    if (missing.length > 0 || extra.length > 0) {
      throw new TypeError(
        `restore: arrays must be ${names.join(', ')}; missing ${missing.join(', ') || 'none'}, ` +
          `unknown ${extra.join(', ') || 'none'}`,
      );
    }
    let batch = 0;
    const views = home.parts.map(({ name, shape }, p) => {
      const axes = new Axes('restore');
      const letters = 'BXYZ'.slice(0, shape.length + 1);
      // The first array tells the number of rows.
      if (p > 0) axes.bind('B', batch);
      const names = name.endsWith('.conv') ? ['C', 'K - 1'] : ['H', 'P', 'N'].slice(-shape.length);
      if (names[0] === 'P') names[0] = 'D';
      shape.forEach((length, axis) => {
        axes.bind(letters[axis + 1], length, names[axis]);
      });
      const given = name.endsWith('.conv') ? narrowed(arrays[name], shape) : arrays[name];
      const view = axes.view(name, given, letters);
      batch = view.shape[0];
      return view;
    });
    const data = newArrays(home, batch);
    home.parts.forEach((part, p) => {
      fillPart(part, data[p].fill(0), views[p]);
    });
    return new SsmState(home, batch, data);
  }

  /** Frees the stack's sessions after the runs asked for so far; a second call does nothing more. */
  dispose(): Promise<void> {
    this.#disposal ??= this.#engine.dispose();
    return this.#disposal;
  }

  /** `dispose()`, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  #expectAlive(what: string): void {
    if (this.#disposal !== undefined) {
      throw new DisposedError(
        `${what}: the stack must be alive, got a disposed one; load it again`,
      );
    }
  }

  #axes(what: string): Axes {
    this.#expectAlive(what);
    const axes = new Axes(what);
    axes.bind('M', this.dModel);
    return axes;
  }

  async #run(
    what: string,
    x: NdView,
    batch: number,
    steps: number,
    given: SsmState | undefined,
    reset: Uint8Array | undefined,
  ): Promise<StackResult> {
    const { home } = this.#engine;
    // A hold of its own: the caller may release the given state before the run has ended.
    const state =
      given === undefined ? zeroState(home, batch) : expectState(what, given, home, batch).share();
    try {
      if (batch === 0 || steps === 0) {
        return { y: nd(new Float32Array(0), x.shape), state: state.share() };
      }
      // A copy where x does not lie row by row; and if it does, not to be written to meanwhile.
      const result = await this.#engine.run(packed(x), batch, steps, state, reset);
      return { y: nd(result.y, x.shape), state: result.state };
    } finally {
      state.release();
    }
  }
}

/** A window of K columns without the oldest; anything else as it is. */
function narrowed(view: NdView<TypedArray>, [channels, before]: readonly number[]): unknown {
  if (!isNd(view) || view.shape.length !== 3) return view;
  const [batch, rows, columns] = view.shape;
  if (rows !== channels || columns !== before + 1) return view;
  const offset = view.offset + view.stride[2];
  return { ...view, shape: [batch, rows, before], offset };
}
