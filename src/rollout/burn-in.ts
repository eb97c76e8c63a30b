/** Context burn-in: what was really seen brings model and policy to the state that imagination starts from. */

import type { ModelContext, WorldModel } from '../dynamics/contract.js';
import { Scratch } from '../dynamics/scratch.js';
import {
  describe,
  expectExtent,
  isNd,
  type NdView,
  nd,
  packed,
  ShapeError,
  type TypedArray,
} from '../nd.js';
import { expectOptions } from '../runtime/options.js';
import { key, type Seed } from '../sampling/key.js';
import { RowNoise } from '../sampling/row-noise.js';
import { Stream } from '../sampling/stream.js';
import { Carry } from './carry.js';
import { expectModel, expectTrajectoryIds } from './imagine-checks.js';
import { type AnyPolicy, type PolicyState, policyOf } from './policy.js';

/** Recorded experience of `B` rows: `C` transitions that lead to where imagination starts. */
export interface BurnInContext {
  /** Observations, float32 `[B, C + 1, S]`; imagination starts from the last. */
  readonly obs: NdView;
  /** The actions between them, float32 `[B, C, A]`: `action[b, t]` leads to `obs[b, t + 1]`. */
  readonly action: NdView;
  /** Rewards of those transitions, float32 `[B, C]`; needed by models that infer something from them. */
  readonly reward?: NdView;
  /** 1 where an observation begins an episode, uint8 `[B, C + 1]`. Default: at the first alone. */
  readonly first?: NdView<Uint8Array>;
}

/** How to burn in. */
export interface BurnInOptions {
  /** Names the noise, of the burn-in and of what is imagined from its carry. */
  seed: Seed;
  /** Ids that key each row's noise, `[B]`. Default `0 .. B - 1`. */
  trajectory?: Uint32Array;
  /**
   * Sees every observation before the last, which imagination will show it, so that it remembers them; its
   * actions are ignored.
   */
  policy?: AnyPolicy;
  /** Stops between calls; burning in then throws the signal's reason. */
  signal?: AbortSignal;
}

const WHAT = 'burnIn';

/**
 * Brings a model from its first observation to its last by what was really seen in between, as Dreamer
 * and its kin condition on a context before they imagine.
 *
 * The model's `initial` sees `obs[:, 0]` at time step 0 and its `observe` each later `obs[:, t]` at time
 * step `t`; the rollout that starts from the carry goes on at time step `C` with noise of the same seed.
 * Markov models need none of it: they start from an observation as it is.
 *
 * @param model - any {@link WorldModel} that can `observe`; without a transition (`C` = 0), any
 * @param context - `obs` `[B, C + 1, S]`, `action` `[B, C, A]`, `reward` `[B, C]`, `first` `[B, C + 1]`
 * @returns where the context ends, as the `start` of `imagine`; its state is the caller's to release
 * @throws TypeError when the model cannot observe
 * @throws TypeError or {@link ShapeError} when an array is not as above
 * @throws RangeError when an episode begins within the context and the policy remembers something
 *
 * @example
 * ```ts @import.meta.vitest
 * const { burnIn, imagine } = await import('umwelt/rollout');
 * const { gatherRows, nd } = await import('umwelt');
 * // A model that believes half of what it saw before and half of what it sees.
 * const half = (a, b) => nd(a.data.map((x, i) => (x + b.data[i]) / 2), a.shape);
 * const model = {
 *   obsSize: 1,
 *   actionSize: 1,
 *   initial: (obs) => obs,
 *   observe: (belief, { obs }) => half(belief, obs),
 *   step: (belief) => ({ state: belief, obs: belief, reward: new Float32Array(1) }),
 *   gather: gatherRows,
 * };
 * const seen = { obs: nd([[[0], [4], [8]]]), action: nd([[[0], [0]]]) };
 * const start = await burnIn(model, seen, { seed: 0 });
 * const rest = (obs) => nd(new Float32Array(obs.shape[0]), obs.shape);
 * const dream = await imagine(model, rest, { start, horizon: 1 }).collect();
 * expect([...dream.obs.data]).toEqual([8, 5]);
 * ```
 */
export async function burnIn<State>(
  model: WorldModel<State>,
  context: BurnInContext,
  options: BurnInOptions,
): Promise<Carry<State>> {
  expectModel(WHAT, model);
  expectOptions(`${WHAT}: context`, context, ['obs', 'action', 'reward', 'first']);
  expectOptions(WHAT, options, ['seed', 'trajectory', 'policy', 'signal']);
  const { obs, action, reward, first } = context;
  expectRecord('obs', obs, Float32Array, ['B', 'C + 1', model.obsSize]);
  const [rows, times] = obs.shape;
  const steps = times - 1;
  if (steps < 0) {
    throw new ShapeError(`${WHAT}: obs must have an observation, got shape [${obs.shape}]`);
  }
  expectRecord('action', action, Float32Array, [rows, steps, model.actionSize]);
  if (reward !== undefined) expectRecord('reward', reward, Float32Array, [rows, steps]);
  if (first !== undefined) expectRecord('first', first, Uint8Array, [rows, times]);
  if (steps > 0 && typeof model.observe !== 'function') {
    throw new TypeError(
      `${WHAT}: model must have a function observe, got none; ` +
        'a model that keeps nothing of the past starts from its last observation, as in imagine({ start: obs })',
    );
  }
  const { signal } = options;
  const ids = options.trajectory ?? Uint32Array.from({ length: rows }, (_, row) => row);
  expectTrajectoryIds(WHAT, ids, rows);
  const trajectory = ids.slice();
  const policy = options.policy && policyOf(WHAT, options.policy);
  const noiseKey = key(options.seed);
  const scratch = { model: new Scratch(), policy: new Scratch() };
  const row = Int32Array.from(trajectory, (_, i) => i);
  const last = at(obs, steps);

  if (rows === 0) {
    const none = { obs: last, policyState: undefined, row, trajectory };
    return new Carry<State>({ ...none, state: undefined, step: steps, key: noiseKey }, undefined);
  }
  const modelContext = (step: number): ModelContext => ({
    step,
    trajectory,
    noise: new RowNoise(noiseKey, Stream.model, step, trajectory),
    scratch: scratch.model,
  });
  let policyState: PolicyState;
  signal?.throwIfAborted();
  let state = await model.initial(at(obs, 0), modelContext(0));
  try {
    for (let step = 0; step < steps; step++) {
      if (policy !== undefined) {
        signal?.throwIfAborted();
        const answer = await policy(at(obs, step), {
          step,
          trajectory,
          noise: new RowNoise(noiseKey, Stream.policy, step, trajectory),
          row,
          startRows: rows,
          state: policyState,
          scratch: scratch.policy,
        });
        policyState = isNd(answer) ? undefined : answer?.state;
      }
      const begins = first && at(first, step + 1).data;
      if (begins?.includes(1) && policyState !== undefined) {
        throw new RangeError(
          `${WHAT}: a policy that remembers must see one episode, got first at step ${step + 1}; ` +
            'cut the context where the episode begins',
        );
      }
      signal?.throwIfAborted();
      const observed = {
        obs: at(obs, step + 1),
        action: at(action, step),
        ...(reward && { reward: at(reward, step).data }),
        ...(begins && { first: begins }),
      };
      const next = await (model.observe as NonNullable<typeof model.observe>)(
        state,
        observed,
        modelContext(step + 1),
      );
      const left = state;
      state = next;
      model.release?.(left);
    }
    signal?.throwIfAborted();
  } catch (error) {
    model.release?.(state);
    throw error;
  }
  const release = () => model.release?.(state);
  const end = { state, obs: last, policyState, row, trajectory };
  return new Carry<State>({ ...end, step: steps, key: noiseKey }, release);
}

/** One time of `[B, T, ...]`, `[B, ...]`, copied. */
function at<T extends TypedArray>(view: NdView<T>, time: number): NdView<T> {
  const [rows, , ...inner] = view.shape;
  const { data, stride, offset } = view;
  const slice = {
    data,
    shape: [rows, ...inner],
    stride: [stride[0], ...stride.slice(2)],
    offset: offset + time * stride[1],
  };
  return nd(packed(slice).slice() as T, slice.shape);
}

function expectRecord(
  name: string,
  view: unknown,
  store: new () => TypedArray,
  shape: readonly (number | string)[],
): void {
  const wanted = `[${shape.join(', ')}]`;
  if (!isNd(view) || !(view.data instanceof store)) {
    throw new TypeError(
      `${WHAT}: ${name} must be a view ${wanted} of ${store.name}, got ${describe(view)}; make one with nd()`,
    );
  }
  const fits = (length: number | string, axis: number) =>
    typeof length === 'string' || view.shape[axis] === length;
  if (view.shape.length !== shape.length || !shape.every(fits)) {
    throw new ShapeError(`${WHAT}: ${name} must have shape ${wanted}, got [${view.shape}]`);
  }
  expectExtent(`${WHAT}: ${name}`, view);
}
