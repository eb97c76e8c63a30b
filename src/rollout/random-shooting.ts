import { expectOptions } from '../runtime/options.js';
import type { ActionSpace } from './action-space.js';
import type { Plan, PlanCarry, Planner, PlanRequest } from './planner.js';
import {
  expectSearchOptions,
  ownActionSpace,
  type SequenceBox,
  sequenceBox,
} from './planner-options.js';
import { type SearchSettings, type SequenceMethod, searchSequences } from './sequence-search.js';
import { expectSteps } from './shift-sequences.js';

/** How random shooting looks for actions. */
export interface RandomShootingOptions {
  /** Actions of a sequence, `H`. */
  horizon: number;
  /** Which actions there are. */
  actionSpace: ActionSpace;
  /** Sequences that are drawn for each start in an iteration, `N`. Default 1000. */
  population?: number;
  /** How often that many are drawn; what one iteration finds does not guide the next. Default 1. */
  iterations?: number;
}

const WHAT = 'RandomShooting';

/**
 * Random shooting: sequences are drawn uniformly from all there are, and the best is taken.
 *
 * @example
 * ```ts @import.meta.vitest
 * const { RandomShooting } = await import('umwelt/rollout');
 * const { nd } = await import('umwelt');
 * const planner = new RandomShooting({ horizon: 1, actionSpace: { type: 'discrete', n: 4 }, population: 50 });
 * // The nearer to the action that is 2, the better.
 * const objective = ({ data, shape }) =>
 *   nd(Float32Array.from(data, (action) => -Math.abs(action - 2)), shape.slice(0, 2));
 * const { actions } = await planner.plan({ objective, start: nd([[0]]), seed: 7 });
 * expect(actions.data).toEqual(Int32Array.of(2));
 * ```
 */
export class RandomShooting implements Planner {
  /** Actions of a sequence, `H`. */
  readonly horizon: number;
  /** Which actions there are. */
  readonly actionSpace: ActionSpace;
  readonly #settings: SearchSettings;
  readonly #population: number;

  /** @throws TypeError or RangeError naming the option, what must hold and what came */
  constructor(options: RandomShootingOptions) {
    expectOptions(WHAT, options, ['horizon', 'actionSpace', 'population', 'iterations']);
    const { horizon, actionSpace, population = 1000, iterations = 1 } = options;
    expectSearchOptions(WHAT, { horizon, actionSpace, population, iterations });
    this.horizon = horizon;
    this.actionSpace = ownActionSpace(actionSpace);
    this.#settings = { what: WHAT, horizon, actionSpace: this.actionSpace, iterations };
    this.#population = population;
  }

  /**
   * Draws sequences and takes the best; it carries nothing, and of a carry that is given it takes no note.
   *
   * @throws TypeError or RangeError for a request or an answer that is not as it must be
   */
  plan<Start>(request: PlanRequest<Start>): Promise<Plan> {
    return searchSequences(this.#settings, request, () => this.#method());
  }

  /** What is carried after some actions were taken: nothing. */
  shift(_carry: PlanCarry, steps: number): PlanCarry {
    expectSteps(WHAT, steps, this.horizon);
    return {};
  }

  #method(): SequenceMethod {
    const { actionSpace } = this;
    const draw =
      actionSpace.type === 'box'
        ? drawInBox(sequenceBox(actionSpace, this.horizon))
        : drawIndices(actionSpace.n);
    return {
      count: () => this.#population,
      draw,
      update: () => {},
      finish: (best) => ({ actions: best.actions, carry: {} }),
    };
  }
}

function drawInBox({ low, high }: SequenceBox): SequenceMethod['draw'] {
  return (iteration, { rows, count, proposed, width, data }, noise) => {
    for (let b = 0; b < rows; b++) {
      const out = data.subarray((b * count + proposed) * width, (b + 1) * count * width);
      noise
        .sequences(b, count - proposed)
        .uniform(width, { draw: iteration, out: out as Float32Array });
      for (let at = 0; at < out.length; at += width) {
        for (let i = 0; i < width; i++) out[at + i] = low[i] + (high[i] - low[i]) * out[at + i];
      }
    }
  };
}

function drawIndices(n: number): SequenceMethod['draw'] {
  let uniform = new Float32Array(0);
  return (iteration, { rows, count, proposed, width, data }, noise) => {
    const own = count - proposed;
    if (uniform.length !== own * width) uniform = new Float32Array(own * width);
    for (let b = 0; b < rows; b++) {
      noise.sequences(b, own).uniform(width, { draw: iteration, out: uniform });
      const to = (b * count + proposed) * width;
      for (let i = 0; i < uniform.length; i++) data[to + i] = Math.floor(n * uniform[i]);
    }
  };
}
