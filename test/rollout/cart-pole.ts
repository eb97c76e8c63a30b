/** A pole on a cart that hangs down and is to be swung up, in closed form. */

import { ClosedFormDynamics } from 'umwelt/dynamics';
import type { ActionSpace } from 'umwelt/rollout';

// Barto, Sutton and Anderson's cart (1983), with a force that cannot lift the pole at once.
const GRAVITY = 9.8;
const CART = 1;
const POLE = 0.1;
/** Half the pole's length. */
const HALF = 0.5;
const FORCE = 10;

export const cartPoleActions: ActionSpace & { type: 'box' } = { type: 'box', low: [-1], high: [1] };

/**
 * Observations `[position, velocity, angle, angular velocity]`, the angle 0 upright and pi hanging;
 * actions are parts of the greatest force. The reward is highest, 1, at rest upright in the middle.
 */
export function cartPole(): ClosedFormDynamics {
  return new ClosedFormDynamics({
    obsSize: 4,
    actionSize: 1,
    dt: 0.04,
    derivative: (obs, action, out) => {
      const [x, u, d] = [obs.data, action.data, out.data];
      for (let row = 0, i = 0; row < u.length; row++, i += 4) {
        const [sin, cos, spin] = [Math.sin(x[i + 2]), Math.cos(x[i + 2]), x[i + 3]];
        const mass = CART + POLE;
        const push = (FORCE * u[row] + POLE * HALF * spin * spin * sin) / mass;
        const turn = (GRAVITY * sin - cos * push) / (HALF * (4 / 3 - (POLE * cos * cos) / mass));
        d[i] = x[i + 1];
        d[i + 1] = push - (POLE * HALF * turn * cos) / mass;
        d[i + 2] = spin;
        d[i + 3] = turn;
      }
    },
    reward: ({ nextObs, action }) => {
      const [x, u] = [nextObs.data, action.data];
      return Float32Array.from(
        u,
        (force, row) =>
          Math.cos(x[4 * row + 2]) -
          0.05 * x[4 * row] ** 2 -
          0.005 * x[4 * row + 3] ** 2 -
          0.01 * force ** 2,
      );
    },
  });
}
