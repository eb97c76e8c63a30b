import * as node from 'onnxruntime-node';
// The WebAssembly build of browsers, which runs in Node too.
import * as web from 'onnxruntime-web/wasm';
import { EnsembleDynamics, Network, NetworkPolicy, nd, packed } from 'umwelt';
import { modelContext, type Prediction } from 'umwelt/dynamics';
import { writeModel } from 'umwelt/onnx';
import { DisposedError, ModelContractError, ModelLoadError, type Ort } from 'umwelt/runtime';
import { beforeAll, describe, expect, test } from 'vitest';
import { HOPPER_POLICY, ids, readJson, toyEnsemble } from '../support/models.js';
import { gemmModel, identityModel, unknownRankGruModel } from '../support/onnx-builder.js';
import { expectRefusal } from './refusal.js';

const toy = readJson<{ obs: number[][]; action: number[][] }>(
  'test/fixtures/ensembles/expected.json',
);

beforeAll(() => {
  // Its default count of threads asks Node for a module in a way that this build cannot.
  web.env.wasm.numThreads = 1;
  web.env.logLevel = 'error';
});

describe('onnxruntime-web', () => {
  test('is known by its versions, and takes the device cpu for its wasm', async () => {
    expect((web as Ort).env.versions.node).toBeUndefined();
    expect((node as Ort).env.versions.node).toBeTypeOf('string');
    const seen: unknown[] = [];
    const recording = {
      ...web,
      InferenceSession: {
        create: (bytes: Uint8Array, options: Record<string, unknown>) => {
          seen.push(options.executionProviders);
          return web.InferenceSession.create(bytes, options);
        },
      },
    } as unknown as Ort;
    await using cpu = await Network.load(recording, identityModel());
    await using wasm = await Network.load(recording, identityModel(), { devices: ['wasm'] });
    expect([cpu.device, wasm.device]).toEqual(['cpu', 'wasm']);
    expect(seen).toEqual([['wasm'], ['wasm']]);
  });

  test('falls back from a device that is not there', async () => {
    const devices = ['webgpu', 'wasm'];
    await using network = await Network.load(web, identityModel(), { devices });
    expect(network.device).toBe('wasm');
    expect(network.failures.map(({ device }) => device)).toEqual(['webgpu']);
  });

  test.each(['shared', 'stacked', 'separate', 'files'])(
    'predicts with a %s ensemble what onnxruntime-node predicts, within 1e-5',
    async (form) => {
      const predict = async (ort: Ort, device: string) => {
        await using model = await EnsembleDynamics.load(ort, toyEnsemble(form), {
          devices: [device],
        });
        expect(model.device).toBe(device);
        const context = modelContext(1, ids(toy.obs.length), { prediction: true });
        const state = model.initial(nd(toy.obs), context);
        return await model.step(state, nd(toy.action), context);
      };
      const here = await predict(web, 'wasm');
      const there = await predict(node, 'cpu');
      const close = { rtol: 1e-5, atol: 1e-5 };
      const [a, b] = [here.prediction as Prediction, there.prediction as Prediction];
      expect(packed(a.mean)).toBeAllclose(packed(b.mean), close);
      expect(packed(here.obs)).toBeAllclose(packed(there.obs), close);
      expect(here.reward).toBeAllclose(there.reward, close);
      // Which member a row takes depends on no network.
      expect(here.extras?.member).toEqual(there.extras?.member);
    },
  );

  test('reads external data and float16', async () => {
    await using policy = await NetworkPolicy.load(web, HOPPER_POLICY, { devices: ['wasm'] });
    expect(policy.device).toBe('wasm');
    await using half = await Network.load(web, identityModel('float16'), { devices: ['wasm'] });
    const { y } = await half.run({ x: nd([[1, -2, 0.5]]) });
    expect(y.data).toEqual(Float32Array.of(1, -2, 0.5));
  });

  test('gives the same refusals, and goes on afterwards', async () => {
    const devices = ['wasm'];
    const load = (model: Uint8Array) => Network.load(web, model, { devices });
    const whole = gemmModel({ weight: [2], bias: [1] });
    await expectRefusal(load(whole.slice(0, 70)), ModelLoadError);
    await expectRefusal(load(unknownRankGruModel()), ModelContractError, 'known rank');
    const unknown = writeModel({
      graph: {
        inputs: [{ name: 'x', shape: [1] }],
        outputs: [{ name: 'y', shape: [1] }],
        nodes: [{ op: 'Nope', inputs: ['x'], outputs: ['y'] }],
      },
    });
    await expectRefusal(load(unknown), ModelLoadError, 'wasm: ');
    await expectRefusal(
      Network.load(web, whole, { devices: ['nonsense'] }),
      ModelLoadError,
      'nonsense: ',
    );
    const network = await load(whole);
    expect((await network.run({ x: nd([[3]]) })).y.data).toEqual(Float32Array.of(7));
    await network.dispose();
    await network.dispose();
    await expectRefusal(network.run({ x: nd([[3]]) }), DisposedError);
  });

  test('answers many runs of several networks at once', async () => {
    await using double = await Network.load(web, gemmModel({ weight: [2], bias: [0] }));
    await using triple = await Network.load(web, gemmModel({ weight: [3], bias: [0] }));
    const runs = Array.from({ length: 40 }, (_, i) =>
      (i % 2 === 0 ? double : triple).run({ x: nd([[i]]) }),
    );
    const answers = (await Promise.all(runs)).map(({ y }) => y.data[0]);
    expect(answers).toEqual(Array.from({ length: 40 }, (_, i) => i * (i % 2 === 0 ? 2 : 3)));
  });
});

/** An ONNX Runtime that computes nothing, and records which of its calls are under way together. */
function recordingOrt(versions: { node?: string; web?: string }) {
  let active = 0;
  const record = { most: 0, calls: [] as string[] };
  const call = async (name: string) => {
    record.calls.push(name);
    record.most = Math.max(record.most, ++active);
    await new Promise((resolve) => setTimeout(resolve, 2));
    active--;
  };
  const ort = {
    env: { versions },
    Tensor: node.Tensor,
    InferenceSession: {
      create: async () => {
        await call('create');
        return {
          run: async ({ x }: { x: { data: Float32Array; dims: number[] } }) => {
            await call(`run ${x.data[0]}`);
            if (x.data[0] < 0) throw new Error('negative');
            return { y: new node.Tensor('float32', x.data.slice(), x.dims) };
          },
          release: () => call('release'),
        };
      },
    },
  } as unknown as Ort;
  return { ort, record };
}

describe('calls of ONNX Runtime', () => {
  const model = identityModel('float32', ['B', 1]);
  const at = (value: number) => ({ x: nd([[value]]) });

  test('never overlap between the networks of one web module', async () => {
    const { ort, record } = recordingOrt({ web: '1.30.0' });
    const [first, second] = await Promise.all([Network.load(ort, model), Network.load(ort, model)]);
    const runs = [0, 1, 2, 3].flatMap((i) => [first.run(at(i)), second.run(at(10 + i))]);
    const third = Network.load(ort, model);
    await Promise.all([...runs, first.dispose(), third]);
    await Promise.all([second.dispose(), (await third).dispose()]);
    expect(record.calls).toHaveLength(14);
    expect(record.most).toBe(1);
  });

  test('keep the order in which they were asked for', async () => {
    const { ort, record } = recordingOrt({ web: '1.30.0' });
    await using first = await Network.load(ort, model);
    await using second = await Network.load(ort, model);
    await Promise.all([first.run(at(0)), second.run(at(1)), first.run(at(2)), second.run(at(3))]);
    expect(record.calls).toEqual(['create', 'create', 'run 0', 'run 1', 'run 2', 'run 3']);
  });

  test('go on after one of another network of the module failed', async () => {
    const { ort } = recordingOrt({ web: '1.30.0' });
    await using first = await Network.load(ort, model);
    await using second = await Network.load(ort, model);
    const [bad, good] = await Promise.allSettled([first.run(at(-1)), second.run(at(1))]);
    expect([bad.status, good.status]).toEqual(['rejected', 'fulfilled']);
  });

  test('may overlap between two web modules', async () => {
    const one = recordingOrt({ web: '1.30.0' });
    const two = recordingOrt({ web: '1.30.0' });
    await using first = await Network.load(one.ort, model);
    await using second = await Network.load(two.ort, model);
    const slow = first.run(at(0));
    await second.run(at(1));
    await slow;
    expect([one.record.most, two.record.most]).toEqual([1, 1]);
  });

  test('in Node wait only for those of the same network', async () => {
    const { ort, record } = recordingOrt({ node: '1.30.0' });
    await using first = await Network.load(ort, model);
    await Promise.all([first.run(at(0)), first.run(at(1)), first.run(at(2))]);
    expect(record.most).toBe(1);
    await using second = await Network.load(ort, model);
    await Promise.all([first.run(at(0)), second.run(at(1))]);
    expect(record.most).toBe(2);
  });
});
