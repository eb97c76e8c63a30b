/** What the drivers reached: a table for the terminal and the page, and pictures. */

import * as Plot from '@observablehq/plot';
import CliTable from 'cli-table3';
import type { NdView } from 'umwelt';
import { bootstrapIndices } from 'umwelt/sampling';
import { escapeHtml, figure, htmlPage, legend, section } from '../demo/page.js';
import { IMAGINED, quantile, svg, TRUE } from '../demo/plots.js';
import type { MpcOptions } from './options.js';

/** The episodes of one driver. */
export interface Episodes {
  readonly name: string;
  /** Rewards, float32 `[episodes, steps]`; 0 after an end. */
  readonly rewards: NdView;
  /** Steps of each episode. */
  readonly length: Int32Array;
  /** Episodes that ended in a fall. */
  readonly fell: number;
  /** Time that deciding took, all episodes together. */
  readonly seconds: number;
}

/** Resampled sets of episodes behind each interval. */
const RESAMPLES = 10_000;

/** The return of each episode. */
export function returnsOf({ rewards }: Episodes): number[] {
  const [episodes, steps] = rewards.shape;
  return Array.from({ length: episodes }, (_, b) =>
    rewards.data.subarray(b * steps, (b + 1) * steps).reduce((sum, reward) => sum + reward, 0),
  );
}

/** A mean with the interval that holds 95 % of the means of resampled episodes. */
export function meanWithInterval(
  values: readonly number[],
  seed: number,
): [number, number, number] {
  const { data } = bootstrapIndices(seed, RESAMPLES, values.length);
  const means = Float64Array.from({ length: RESAMPLES }, (_, i) => {
    let sum = 0;
    for (let j = 0; j < values.length; j++) sum += values[data[i * values.length + j]];
    return sum / values.length;
  }).sort();
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return [mean, quantile(means, 0.025), quantile(means, 0.975)];
}

const HEADINGS = [
  'driver',
  'mean return',
  '95 % interval',
  'gain on the first',
  '95 % interval',
  'falls',
  'mean length',
  'ms a decision',
];

/** A line for each driver; gains are of episodes with the same start. */
export function lines(drivers: readonly Episodes[], seed: number): string[][] {
  const first = returnsOf(drivers[0]);
  return drivers.map((driver, i) => {
    const returns = returnsOf(driver);
    const [mean, low, high] = meanWithInterval(returns, seed);
    const gain = meanWithInterval(
      returns.map((value, b) => value - first[b]),
      seed,
    );
    const length = driver.length.reduce((sum, n) => sum + n, 0);
    return [
      driver.name,
      mean.toFixed(1),
      `${low.toFixed(1)} to ${high.toFixed(1)}`,
      i === 0 ? '' : gain[0].toFixed(1),
      i === 0 ? '' : `${gain[1].toFixed(1)} to ${gain[2].toFixed(1)}`,
      `${driver.fell} of ${returns.length}`,
      (length / returns.length).toFixed(0),
      ((1000 * driver.seconds) / length).toFixed(2),
    ];
  });
}

/** The table as text. */
export function textTable(drivers: readonly Episodes[], seed: number): string {
  const table = new CliTable({
    head: HEADINGS,
    colAligns: HEADINGS.map((_, i) => (i === 0 ? 'left' : 'right')),
    // No colours: the table may go to a file.
    style: { head: [], border: [], compact: true },
  });
  table.push(...lines(drivers, seed));
  return table.toString();
}

/** Writes the page. */
export function renderReport(drivers: readonly Episodes[], options: MpcOptions): string {
  const { seed, episodes, steps } = options;
  const rows = lines(drivers, seed)
    .map((cells) => `<tr>${cells.map((cell) => `<td>${escapeHtml(cell)}</td>`).join('')}</tr>`)
    .join('\n');
  return htmlPage(
    'Planning with a learned model',
    `A policy hops in MuJoCo, and a planner looks for something better around what the policy does, with
the ensemble and the critics that were learned in the policy's training. Both meet the same ${episodes} starts.`,
    `${section(
      'What they earned',
      legend('true', 'planner') + legend('', 'policy'),
      [
        figure('Return of each episode', returnsChart(drivers)),
        figure('Reward a step', rewardChart(drivers)),
      ],
      `Every dot is an episode of at most ${steps} steps in the true simulator. On the right the mean over
episodes that still run, and over 50 steps.`,
    )}
<section>
<h2>In numbers</h2>
<div class="scroll"><table class="named">
<thead><tr>${HEADINGS.map((heading) => `<th>${heading}</th>`).join('')}</tr></thead>
<tbody>${rows}</tbody>
</table></div>
<p class="caption">Intervals hold 95 % of the means of ${RESAMPLES.toLocaleString('en')} resampled sets of
episodes. A decision is timed while all episodes are planned for at once, on one thread.</p>
</section>
<footer><p>Made by <code>npm run mpc -- --seed ${seed} --episodes ${episodes} --steps ${steps}</code>.</p></footer>`,
  );
}

function returnsChart(drivers: readonly Episodes[]): string {
  const dots = drivers.flatMap((driver) =>
    returnsOf(driver).map((value) => ({ name: driver.name, value })),
  );
  return svg(
    { description: 'Return of each episode, by driver', xLabel: 'return', yLabel: '' },
    {
      marginLeft: 172,
      x: { nice: true, grid: true },
      y: { label: null, tickSize: 0 },
      marks: [
        Plot.dot(dots, { x: 'value', y: 'name', r: 4, fill: IMAGINED, fillOpacity: 0.45 }),
        Plot.tickX(dots, Plot.groupY({ x: 'mean' }, { x: 'value', y: 'name', stroke: TRUE })),
      ],
    },
  );
}

function rewardChart(drivers: readonly Episodes[]): string {
  const width = 50;
  const planner = drivers.length - 1;
  const marks = drivers.map(({ rewards, length }, i) => {
    const [episodes, steps] = rewards.shape;
    const points: { step: number; value: number }[] = [];
    for (let from = 0; from < steps; from += width) {
      let sum = 0;
      let count = 0;
      for (let b = 0; b < episodes; b++) {
        for (let t = from; t < Math.min(from + width, length[b]); t++, count++) {
          sum += rewards.data[b * steps + t];
        }
      }
      if (count > 0) points.push({ step: from + width / 2, value: sum / count });
    }
    return Plot.lineY(points, {
      x: 'step',
      y: 'value',
      stroke: i === planner ? TRUE : IMAGINED,
      strokeWidth: i === planner ? 2.5 : 1.5,
    });
  });
  return svg(
    { description: 'Mean reward by step', xLabel: 'step', yLabel: 'reward' },
    { y: { nice: true }, marks },
  );
}
