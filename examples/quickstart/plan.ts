import { imagine, nd } from 'umwelt';
import { ClosedFormDynamics } from 'umwelt/dynamics';
import { IcemPlanner, modelObjective, mpcPolicy } from 'umwelt/rollout';

// A pendulum too weak to be lifted at once: [angle from upright, velocity], torque within 2.
const pendulum = new ClosedFormDynamics({
  obsSize: 2,
  actionSize: 1,
  dt: 0.05,
  derivative: (obs, action, out) => {
    for (let b = 0; b < obs.shape[0]; b++) {
      out.data[2 * b] = obs.data[2 * b + 1];
      out.data[2 * b + 1] = 15 * Math.sin(obs.data[2 * b]) + 3 * action.data[b];
    }
  },
  reward: ({ nextObs, action }) =>
    action.data.map((torque, b) => {
      const [angle, velocity] = nextObs.data.subarray(2 * b, 2 * b + 2);
      return Math.cos(angle) - 0.01 * velocity * velocity - 0.001 * torque * torque;
    }),
});

// Any model goes here: an ensemble loaded from ONNX plans in the same way.
const policy = mpcPolicy({
  planner: new IcemPlanner({
    horizon: 20,
    actionSpace: { type: 'box', low: [-2], high: [2] },
    population: 100,
    iterations: 3,
  }),
  objective: modelObjective(pendulum),
});
const swing = await imagine(pendulum, policy, {
  start: nd([[Math.PI, 0]]), // hanging down
  horizon: 80,
  seed: 0,
}).collect();
const height = Array.from({ length: 5 }, (_, i) => Math.cos(swing.obs.data[40 * i]).toFixed(1));
console.log('height every 20 steps:', height.join(', ')); // -> height every 20 steps: -1.0, -0.8, 0.5, 1.0, 1.0
