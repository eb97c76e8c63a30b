import { imagine, nd, type Policy } from 'umwelt';
import { ClosedFormDynamics } from 'umwelt/dynamics';
import { imagineRecorded, openLoopReport } from 'umwelt/evaluation';

// The same pendulum twice: as it is, and as a model that has its gravity 3 % wrong.
const pendulum = (gravity: number) =>
  new ClosedFormDynamics({
    obsSize: 2,
    actionSize: 1,
    dt: 0.05,
    derivative: (obs, action, out) => {
      for (let b = 0; b < obs.shape[0]; b++) {
        out.data[2 * b] = obs.data[2 * b + 1];
        out.data[2 * b + 1] = gravity * Math.sin(obs.data[2 * b]) + action.data[b];
      }
    },
    reward: ({ nextObs }) =>
      Float32Array.from({ length: nextObs.shape[0] }, (_, b) => Math.cos(nextObs.data[2 * b])),
  });

// A recording of the true one; your data goes here: obs [B, T + 1, S], action [B, T, A], reward [B, T].
const shake: Policy = (_obs, { noise }) => noise.normal(1);
const start = nd(Array.from({ length: 64 }, (_, b) => [0.1 * b - 3.2, 0]));
const recorded = await imagine(pendulum(15), shake, { start, horizon: 20, seed: 0 }).collect();

const { imagined, actual } = await imagineRecorded(pendulum(15.5), recorded, { seed: 1 });
const report = openLoopReport(imagined, actual, { scale: [1.5, 3] });
const { rmse, persistence } = report.states; // by step; reportTable(report.states) prints all of it
const cells = [0, 9, 19].map((t) => `${rmse[t].toFixed(3)} of ${persistence[t].toFixed(2)}`);
console.log(cells.join(', ')); // -> 0.004 of 0.13, 0.031 of 1.19, 0.051 of 1.54
