import { describe } from '../nd.js';
import { ModelLoadError, reasonOf } from '../runtime/errors.js';
import type { Device, DeviceFailure } from '../runtime/network.js';
import { expectOrt, type Ort } from '../runtime/ort.js';
import { DeviceEngine } from './device-engine.js';
import type { Engine, LoadedEngine, StackOptions } from './engine.js';
import type { Family } from './family.js';
import { HostEngine } from './host-engine.js';
import { expectBytes, KernelMemory } from './kernel-memory.js';

const FORMS = ['auto', 'graph', 'kernels'];

/**
 * Loads a stack on the first device that takes it.
 *
 * @throws ModelLoadError when none does, with the reasons
 */
export async function loadEngine(
  ort: Ort,
  what: string,
  family: Family,
  options: StackOptions,
): Promise<LoadedEngine> {
  expectOrt(ort);
  checkOptions(what, options);
  return firstDevice(what, options, (device) =>
    isHost(device)
      ? HostEngine.load(ort, device, family, options)
      : DeviceEngine.load(ort, device, family, options),
  );
}

/** Tries the devices one by one. */
export async function firstDevice(
  what: string,
  { devices = 'cpu', session }: Pick<StackOptions, 'devices' | 'session'>,
  load: (device: Device) => Promise<Engine>,
): Promise<LoadedEngine> {
  const wanted: unknown = typeof devices === 'string' ? [devices] : devices;
  if (!Array.isArray(wanted) || !wanted.every((device) => typeof device === 'string')) {
    throw new TypeError(`${what}: devices must be names such as 'cpu', got ${describe(devices)}`);
  }
  if (wanted.length === 0) {
    throw new RangeError(`${what}: devices must name at least one, such as 'cpu'`);
  }
  if (session !== undefined && (typeof session !== 'object' || session === null)) {
    throw new TypeError(`${what}: session must be an object, got ${describe(session)}`);
  }
  const failures: DeviceFailure[] = [];
  for (const device of wanted) {
    try {
      return { engine: await load(device), failures };
    } catch (error) {
      if (!(error instanceof ModelLoadError)) throw error;
      failures.push({ device, reason: reasonOf(error) });
    }
  }
  const reasons = failures.map(({ device, reason }) => `${device}: ${reason}`).join('; ');
  throw new ModelLoadError(`${what}: no device could load the stack (${reasons})`);
}

/** Whether a device is the CPU, where the kernels are. */
function isHost(device: Device): boolean {
  return device === 'cpu' || device === 'wasm';
}

function checkOptions(what: string, { form = 'auto', tile = 16, memory }: StackOptions): void {
  if (!FORMS.includes(form)) {
    throw new TypeError(`${what}: form must be 'auto', 'graph' or 'kernels', got '${form}'`);
  }
  if (!Number.isInteger(tile) || tile < 16 || tile % 16 !== 0) {
    throw new RangeError(`${what}: tile must be a multiple of 16, got ${tile}`);
  }
  if (memory !== undefined) {
    if (typeof memory !== 'object' || memory === null) {
      throw new TypeError(
        `${what}: memory must be an object such as { bytes: 2 ** 28 }, got ${describe(memory)}`,
      );
    }
    if ('bytes' in memory) expectBytes(`${what}: memory`, memory.bytes);
    // A small one tells whether the variant is there; the real one is made when a batch first needs it.
    new KernelMemory({ ...memory, bytes: 1 });
  }
}
