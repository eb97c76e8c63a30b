/**
 * Runs the device tests, and ends them when they hang: a run that never returns blocks its process
 * or page, so that no time-out inside can fire. Arguments go to the test runner.
 */

import { spawn } from 'node:child_process';

const LIMIT_SECONDS = Number(process.env.DEVICE_TESTS_LIMIT ?? 200);
const GRACE_SECONDS = 5;

// A process group of its own, so that its workers can be ended with it.
const runner = spawn(
  'vitest',
  ['run', '--config', 'vitest.devices.config.ts', ...process.argv.slice(2)],
  { stdio: 'inherit', detached: true },
);

function signalGroup(signal: NodeJS.Signals): void {
  if (runner.pid === undefined) return;
  try {
    process.kill(-runner.pid, signal);
  } catch {
    // Nothing of it is left.
  }
}

let stopped = false;
function stop(): void {
  stopped = true;
  signalGroup('SIGTERM');
  setTimeout(signalGroup, GRACE_SECONDS * 1000, 'SIGKILL').unref();
}

process.on('SIGINT', stop);
process.on('SIGTERM', stop);
const limit = setTimeout(() => {
  console.error(`test:devices: a device hangs, got no end within ${LIMIT_SECONDS} s`);
  stop();
}, LIMIT_SECONDS * 1000);

runner.on('error', (error) => {
  clearTimeout(limit);
  console.error(`test:devices: ${error.message}; start it by npm run test:devices`);
  process.exitCode = 1;
});
runner.on('exit', (code) => {
  clearTimeout(limit);
  // A worker that is blocked does not see that its runner has gone.
  signalGroup('SIGKILL');
  process.exitCode = stopped ? 1 : (code ?? 1);
});
