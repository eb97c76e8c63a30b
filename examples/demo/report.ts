/** The page of the demo. */

import type { NdView, Trajectory } from 'umwelt';
import { type Comparison, uncertaintiesOf } from './compare.js';
import type { Fan } from './fan.js';
import type { DemoOptions } from './options.js';
import { escapeHtml, figure, htmlPage, legend, section } from './page.js';
import { bandChart, scatterChart } from './plots.js';
import { decimal, HEADINGS, tableCells } from './table.js';

/** Everything the page tells. */
export interface Report {
  readonly options: DemoOptions;
  readonly model: { readonly name: string; readonly members: number; readonly elites: number };
  readonly policy: string;
  readonly obsNames: readonly string[];
  /** Milliseconds of one step. */
  readonly stepMs: number;
  /** The same dream, once scored by `maxPairwiseDifference` and once by `maxAleatoric`. */
  readonly dream: Trajectory;
  readonly coefficient: number;
  readonly comparison: Comparison;
  readonly fan: Fan;
  /** Transitions in the dream, and how many a second. */
  readonly transitions: number;
  readonly rate: number;
}

/** Coordinates worth a picture, where the task has them. */
const COORDINATES = [
  { name: 'z', title: 'Height', unit: 'torso height (m)' },
  { name: 'pitch', title: 'Pitch', unit: 'forward lean (rad)' },
  { name: 'vx', title: 'Forward velocity', unit: 'torso velocity (m/s)' },
];

/** Steps at which uncertainty is held against error. */
const SCATTER_STEPS = [1, 5, 15];

/** Writes the page. */
export function renderReport(report: Report): string {
  const { options, model, policy, comparison, transitions, rate } = report;
  const { rows, horizon, seed } = options;
  const { falsePositive, falseNegative } = comparison.falls.byHorizon;
  return htmlPage(
    'A hopper, dreamt and real',
    `${rows} trajectories of up to ${horizon} steps (${seconds(report, horizon)}&nbsp;s),
imagined by an ensemble of ${model.members} networks, beside what the MuJoCo simulator does from the
same states under the same actions.`,
    `${fanSection(report)}
${trustSection(report)}
${scatterSection(report)}
${tableSection(report)}
<footer>
<p>Ensemble <code>${escapeHtml(model.name)}</code> (${model.members} members, ${model.elites} elites
sampled), policy <code>${escapeHtml(policy)}</code>, seed ${seed}: ${count(transitions)} imagined
transitions, ${count(rate)} a second on this machine with the penalty of all members.
Simulator: MuJoCo in WebAssembly. ${sum(falseNegative)} rows fell in the simulator at a step
that the dream survived; ${sum(falsePositive)} fell only in the dream;
${report.dream.nonFinite} ended in a result that was not finite.</p>
<p>Made by <code>npm run demo -- --seed ${seed} --rows ${rows} --horizon ${horizon}</code>.</p>
</footer>`,
  );
}

function fanSection(report: Report): string {
  const { fan, obsNames, options } = report;
  const points = fan.actual.length;
  const figures = COORDINATES.filter(({ name }) => obsNames.includes(name)).map(
    ({ name, title, unit }) => {
      const dim = obsNames.indexOf(name);
      const chart = bandChart({
        description: `${title} of one start by step: imagined paths as bands, the true path as a line`,
        xLabel: stepLabel(report),
        yLabel: unit,
        firstStep: 0,
        values: fan.actual.map((_, t) =>
          fan.imagined.map((path) => path[t * obsNames.length + dim]),
        ),
        actual: fan.actual.map((obs, step) => ({ step, value: obs[dim] })),
      });
      return figure(title, chart);
    },
  );
  return section(
    `One start, one plan, ${fan.imagined.length} dreams`,
    legend('true', 'simulator') + legend('median', 'median dream') + bandLegend('dreams'),
    figures,
    `Start ${fan.row}, ${points - 1} steps, seed ${options.seed}: every dream takes the same recorded
    actions and differs only in its noise, so the bands are what the model holds possible; a fall does
    not end them. The start is the one of median error among those that stayed comparable the longest.`,
  );
}

function trustSection(report: Report): string {
  const { comparison, dream, options } = report;
  const { mask } = comparison.reality;
  const uncertainties = uncertaintiesOf(dream);
  const shared = comparison.lines.filter(({ rows }) => rows > 0);
  const scores = [
    { title: 'Disagreement', name: 'maxPairwiseDifference' },
    { title: 'Noise', name: 'maxAleatoric' },
  ];
  const figures = [
    figure(
      'Model error',
      bandChart({
        description: 'Error of imagined observations by step, as bands over rows',
        xLabel: stepLabel(report),
        yLabel: 'error (standard deviations)',
        firstStep: 1,
        fromZero: true,
        values: columns(comparison.openLoop.perRow, mask),
        dashed: shared.map(({ horizon, error }) => ({ step: horizon, value: error })),
      }),
    ),
    ...scores.map(({ title, name }, i) => {
      const values = columns(uncertainties[i], mask);
      return figure(
        title,
        bandChart({
          description: `${name} of the dream by step, as bands over rows`,
          xLabel: stepLabel(report),
          yLabel: `${name} (output units)`,
          firstStep: 1,
          fromZero: true,
          values,
          dashed: values
            .map((column, step) => ({ step: step + 1, value: mean(column) }))
            .filter(({ value }) => Number.isFinite(value)),
        }),
      );
    }),
  ];
  const first = shared[0];
  const last = shared[shared.length - 1];
  return section(
    'Error and uncertainty by horizon',
    legend('median', 'median row') +
      bandLegend('rows') +
      legend('dashed', 'root mean square error, mean uncertainty'),
    figures,
    `Seed ${options.seed}. Error is the distance to the simulator in standard deviations of the training
    data: ${decimal(first.error)} after one step over ${first.rows} rows, ${decimal(last.error)} after
    ${last.horizon} over ${last.rows}; to expect no change at all would be off by ${decimal(first.persistence)} and
    ${decimal(last.persistence)}. Uncertainty is that of the prediction made at that step, over rows
    that still count: how far apart two members' means lie at most, and the largest noise that a member
    predicts, as lengths in the outputs' own units (m, rad, m/s, rad/s and reward).`,
  );
}

function scatterSection(report: Report): string {
  const { comparison, dream, options } = report;
  const { mask } = comparison.reality;
  const steps = [...new Set(SCATTER_STEPS.map((step) => Math.min(step, options.horizon)))];
  const uncertainty = columns(dream.uncertainty, mask);
  const error = columns(comparison.openLoop.perRow, mask);
  const shown = (values: readonly number[][]) => steps.flatMap((step) => values[step - 1]);
  const figures = steps.map((step) => {
    const correlation = decimal(comparison.lines[step - 1].rankCorrelation[0]);
    return figure(
      `Step ${step}: rank correlation ${correlation}`,
      scatterChart({
        description: `Uncertainty against true error at step ${step}, rank correlation ${correlation}`,
        xLabel: 'maxPairwiseDifference (output units)',
        yLabel: 'error (standard deviations)',
        points: uncertainty[step - 1].map((x, i) => ({ x, y: error[step - 1][i] })),
        xDomain: extent(shown(uncertainty)),
        yDomain: extent(shown(error)),
      }),
    );
  });
  return section(
    'Does the model know when it is wrong?',
    legend('dot', 'one row') + legend('true', 'medians of five equal groups'),
    figures,
    `Seed ${options.seed}, ${steps
      .map((step) => `${comparison.lines[step - 1].rows} rows at step ${step}`)
      .join(', ')}; both axes are logarithmic
    and the same in every picture. A rank correlation of 1 says that rows
    of higher uncertainty have higher error, 0 that there is no such order. Error adds up along a dream
    and uncertainty is of one prediction, so later steps ask more of it.`,
  );
}

function tableSection({ comparison, coefficient, options }: Report): string {
  const cells = tableCells(comparison.lines);
  const row = (tag: string, values: readonly string[]) =>
    `<tr>${values.map((value) => `<${tag}>${escapeHtml(value)}</${tag}>`).join('')}</tr>`;
  return `<section>
<h2>By horizon</h2>
<div class="scroll"><table>
<thead>${row('th', HEADINGS)}</thead>
<tbody>${cells.map((values) => row('td', values)).join('\n')}</tbody>
</table></div>
<p class="caption">Seed ${options.seed}. Means over rows. A step counts where dream and simulator both
take it; a row that has ended in either keeps its return so far and leaves error, correlation and
<em>rows</em>. Penalty is ${coefficient} × maxPairwiseDifference, added up; it is not taken off the
imagined return shown. Error is the root mean square in standard deviations of the training data.</p>
</section>`;
}

function bandLegend(what: string): string {
  return legend('inner', `middle half of the ${what}`) + legend('outer', 'middle 80%');
}

/** Values of a `[B, T]` view by step, in the rows whose mask is 1 there. */
function columns(view: NdView, mask: NdView<Uint8Array>): number[][] {
  const [rows, horizon] = mask.shape;
  return Array.from({ length: horizon }, (_, step) => {
    const values: number[] = [];
    for (let row = 0; row < rows; row++) {
      const at = row * horizon + step;
      if (mask.data[at] === 1) values.push(view.data[at]);
    }
    return values;
  });
}

/** The smallest and the largest of positive values. */
function extent(values: readonly number[]): [number, number] {
  const positive = values.filter((value) => value > 0);
  return [Math.min(...positive), Math.max(...positive)];
}

function mean(values: readonly number[]): number {
  return sum(values) / values.length;
}

function sum(values: Iterable<number>): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}

function stepLabel({ stepMs }: Report): string {
  return `steps of ${stepMs} ms`;
}

function seconds({ stepMs }: Report, steps: number): string {
  return ((steps * stepMs) / 1000).toFixed(2);
}

function count(value: number): string {
  return Math.round(value).toLocaleString('en');
}
