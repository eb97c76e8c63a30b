/**
 * The world model of `train.py` in JavaScript: its Mamba-2 core as one of umwelt's stacks, and the
 * two small layers around it by hand.
 */

import { readFile } from 'node:fs/promises';
import * as ort from 'onnxruntime-node';
import { type NdView, nd, packed } from 'umwelt';
import { readSafetensors } from 'umwelt/formats';
import { Mamba2Stack, type StackOptions } from 'umwelt/ssm';
import { at, cut, join } from './sequences.js';

/** Observation and action in, the next observation out, with a memory in between. */
export class WorldModel implements AsyncDisposable {
  readonly core: Mamba2Stack;
  /** The weights by their keys in PyTorch. */
  readonly weights: Readonly<Record<string, NdView>>;

  private constructor(core: Mamba2Stack, weights: Readonly<Record<string, NdView>>) {
    this.core = core;
    this.weights = weights;
  }

  /** Loads a folder with `model.safetensors`. */
  static async load(folder: URL, options: StackOptions = {}): Promise<WorldModel> {
    const core = await Mamba2Stack.load(ort, folder, {
      // The stack is everything under the prefix but the layer before it.
      prefix: 'backbone.',
      ignore: ['stem.'],
      ...options,
    });
    const { tensors } = readSafetensors(await readFile(new URL('model.safetensors', folder)));
    return new WorldModel(core, tensors as Record<string, NdView>);
  }

  /** What the core is given: observations `[..., S]` and actions `[..., A]` to `[..., M]`. */
  embed(obs: NdView, action: NdView): NdView {
    const { obs_mean: mean, obs_std: std } = this.weights;
    const size = mean.data.length;
    const scaled = packed(obs).map((x, i) => (x - mean.data[i % size]) / std.data[i % size]);
    const actions = packed(action);
    const actionSize = action.shape[action.shape.length - 1];
    const rows = scaled.length / size;
    const inputs = new Float32Array(rows * (size + actionSize));
    for (let row = 0; row < rows; row++) {
      const to = row * (size + actionSize);
      inputs.set(scaled.subarray(row * size, (row + 1) * size), to);
      inputs.set(actions.subarray(row * actionSize, (row + 1) * actionSize), to + size);
    }
    return nd(this.#linear('backbone.stem', inputs), [...obs.shape.slice(0, -1), this.core.dModel]);
  }

  /** The next observations, `[..., S]`, from those now and the core's outputs `[..., M]`. */
  advance(obs: NdView, y: NdView): NdView {
    const { delta_std: std } = this.weights;
    const change = this.#linear('head', packed(y));
    const next = packed(obs).map((x, i) => x + std.data[i % std.data.length] * change[i]);
    return nd(next, obs.shape);
  }

  /**
   * Sees the first steps of episodes, then imagines the others from the actions alone.
   *
   * @param obs - what is seen, `[B, seen, S]`
   * @param action - the actions of those steps and of the others, `[B, T, A]`
   * @returns the last observation that was seen, then those imagined, `[B, T - seen + 2, S]`
   */
  async dream(obs: NdView, action: NdView): Promise<NdView> {
    const seen = obs.shape[1];
    const steps = action.shape[1];
    const context = await this.core.scan(this.embed(obs, cut(action, 0, seen)));
    let { state } = context;
    let now = at(obs, seen - 1);
    const dreamt = [now];
    now = this.advance(now, at(context.y, seen - 1));
    dreamt.push(now);
    for (let step = seen; step < steps; step++) {
      const result = await this.core.step(this.embed(now, at(action, step)), state);
      state.release();
      state = result.state;
      now = this.advance(now, result.y);
      dreamt.push(now);
    }
    state.release();
    return join(dreamt);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.core.dispose();
  }

  /** `nn.Linear` on rows of inputs: `x W' + b`. */
  #linear(name: string, x: Float32Array): Float32Array {
    const { [`${name}.weight`]: weight, [`${name}.bias`]: bias } = this.weights;
    const [outputs, inputs] = weight.shape;
    const y = new Float32Array((x.length / inputs) * outputs);
    for (let row = 0; row * inputs < x.length; row++) {
      for (let o = 0; o < outputs; o++) {
        let sum = bias.data[o];
        for (let i = 0; i < inputs; i++) sum += weight.data[o * inputs + i] * x[row * inputs + i];
        y[row * outputs + o] = sum;
      }
    }
    return y;
  }
}
