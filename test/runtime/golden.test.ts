import * as ort from 'onnxruntime-node';
import { Network } from 'umwelt';
import { type OnnxDtype, writeModel } from 'umwelt/onnx';
import { type Golden, ModelContractError, type Ort } from 'umwelt/runtime';
import { describe, expect, test } from 'vitest';
import { HOPPER_POLICY, readJson, toyEnsemble } from '../support/models.js';
import { gemmModel, identityModel } from '../support/onnx-builder.js';
import { expectRefusal } from './refusal.js';

const tensor = (shape: number[], data: number[]) => ({ shape, data });

/** y = 2 x + 1, 3 x + 10 */
const model = gemmModel({ weight: [2, 3], bias: [1, 10] });
const right: Golden = {
  inputs: { x: tensor([2, 1], [0, 100]) },
  outputs: { y: tensor([2, 2], [1, 10, 201, 310]) },
};

function load(golden: Golden, bytes: Uint8Array = model, options = {}, runtime: Ort = ort) {
  const manifest = { format: 1, kind: 'network', file: 'm.onnx', golden };
  return Network.load(runtime, { manifest, files: { 'm.onnx': bytes } }, options);
}

/** Golden outputs with one element changed. */
function changed(index: number, value: number): Golden {
  const data = [1, 10, 201, 310].map((x, i) => (i === index ? value : x));
  return { ...right, outputs: { y: tensor([2, 2], data) } };
}

describe('golden values', () => {
  test('that come out let the network load', async () => {
    await using network = await load(right);
    expect(network.device).toBe('cpu');
  });

  test('that do not are refused, naming the output, the element and both values', async () => {
    await expectRefusal(
      load(changed(2, 202)),
      ModelContractError,
      'm.onnx',
      'does not reproduce its golden outputs',
      "'y' element 2 must be 202, got 201",
      'golden: false',
    );
  });

  test('may differ by 1e-5 and a thousandth, and no more', async () => {
    for (const [index, value] of [
      [2, 201 * (1 + 0.9e-3)],
      [0, 1 - 0.9e-3],
    ]) {
      await using network = await load(changed(index, value));
      expect(network.device).toBe('cpu');
    }
    await expectRefusal(load(changed(2, 201 * (1 + 1.1e-3))), ModelContractError, 'element 2');
    await expectRefusal(load(changed(0, 1 - 1.1e-3)), ModelContractError, 'element 0');
    const zero = { inputs: { x: tensor([1, 1], [0]) }, outputs: { y: tensor([1, 1], [0]) } };
    await using near = await load(zero, gemmModel({ weight: [1], bias: [0.9e-5] }));
    expect(near.device).toBe('cpu');
    await expectRefusal(
      load(zero, gemmModel({ weight: [1], bias: [1.1e-5] })),
      ModelContractError,
      'element 0',
    );
  });

  test('are never met by NaN or an infinity', async () => {
    const log = writeModel({
      graph: {
        inputs: [{ name: 'x', shape: ['B'] }],
        outputs: [{ name: 'y', shape: ['B'] }],
        nodes: [{ op: 'Log', inputs: ['x'], outputs: ['y'] }],
      },
    });
    const at = (x: number) => ({
      inputs: { x: tensor([1], [x]) },
      outputs: { y: tensor([1], [0]) },
    });
    await using fine = await load(at(1), log);
    expect(fine.device).toBe('cpu');
    await expectRefusal(load(at(-1), log), ModelContractError, 'got NaN');
    await expectRefusal(load(at(0), log), ModelContractError, 'got -Infinity');
  });

  test('are not looked at with golden: false', async () => {
    await using network = await load(changed(2, 202), model, { golden: false });
    expect(network.device).toBe('cpu');
    await expectRefusal(load(changed(2, 202), model, { golden: true }), ModelContractError);
  });

  test('of another shape are refused with both shapes', async () => {
    const flat = { ...right, outputs: { y: tensor([4], [1, 10, 201, 310]) } };
    await expectRefusal(load(flat), ModelContractError, "'y' of shape [4]", 'got [2,2]');
    const narrow = { ...right, inputs: { x: tensor([2, 2], [0, 1, 2, 3]) } };
    await expectRefusal(load(narrow), ModelContractError, 'golden inputs', '[B, 1], got [2, 2]');
  });

  test('of an output the graph does not have are refused', async () => {
    const golden = { ...right, outputs: { z: tensor([1], [0]) } };
    await expectRefusal(load(golden), ModelContractError, "'z'", 'got none');
  });

  test('of an input the graph does not have, or without one it has, are refused', async () => {
    const more = { ...right, inputs: { ...right.inputs, noise: tensor([1], [0]) } };
    await expectRefusal(load(more), ModelContractError, 'golden inputs', "'noise'");
    const less = { ...right, inputs: {} };
    await expectRefusal(load(less), ModelContractError, 'golden inputs', "'x' must be fed");
  });

  test('with too few or too many elements for their shape are refused', async () => {
    for (const data of [[1, 10, 201], [1, 10, 201, 310, 5], []]) {
      const outputs = { ...right, outputs: { y: tensor([2, 2], data) } };
      await expectRefusal(load(outputs), ModelContractError, "'y'", 'elements');
    }
    const inputs = { ...right, inputs: { x: tensor([2, 1], [0]) } };
    await expectRefusal(load(inputs), ModelContractError, 'golden inputs', 'elements');
  });

  test('are recorded for every dtype', async () => {
    const dtypes: OnnxDtype[] = [
      'float32',
      'float64',
      'float16',
      'int8',
      'int16',
      'int32',
      'int64',
      'uint8',
      'uint16',
      'uint32',
      'uint64',
      'bool',
    ];
    const golden = (last: number): Golden => ({
      inputs: { x: tensor([1, 3], [1, 0, 1]) },
      outputs: { y: tensor([1, 3], [1, 0, last]) },
    });
    for (const dtype of dtypes) {
      await using network = await load(golden(1), identityModel(dtype));
      expect(network.inputs[0].dtype).toBe(dtype);
      await expectRefusal(load(golden(0), identityModel(dtype)), ModelContractError, 'element 2');
    }
  });

  test('that fail free the session', async () => {
    let released = 0;
    const counting = {
      ...ort,
      InferenceSession: {
        create: async (bytes: Uint8Array, options: Record<string, unknown>) => {
          const session = await ort.InferenceSession.create(bytes, options);
          return {
            run: (feeds: Record<string, never>) => session.run(feeds),
            release: () => {
              released++;
              return session.release();
            },
          };
        },
      },
    } as unknown as Ort;
    await expectRefusal(load(changed(2, 202), model, {}, counting), ModelContractError);
    expect(released).toBe(1);
    const more = { ...right, inputs: {} };
    await expectRefusal(load(more, model, {}, counting), ModelContractError);
    expect(released).toBe(2);
  });
});

describe('the committed models', () => {
  test.each([
    ['the trained policy', HOPPER_POLICY],
    ['a toy ensemble', toyEnsemble('shared')],
    ['a network in half precision', toyEnsemble('float16')],
  ])('reproduce their golden values: %s', async (_, folder) => {
    await using network = await Network.load(ort, folder);
    expect(network.device).toBe('cpu');
  });

  test('carry golden values that a changed network would miss', async () => {
    const manifest = readJson<{ golden: Golden }>('examples/models/hopper-policy/manifest.json');
    const { mean } = manifest.golden.outputs;
    const data = mean.data.map((x, i) => (i === 3 ? x + 0.01 : x));
    const golden = { ...manifest.golden, outputs: { mean: { ...mean, data } } };
    await expectRefusal(
      Network.load(ort, HOPPER_POLICY, { manifest: { ...manifest, golden } }),
      ModelContractError,
      "'mean' element 3",
    );
  });
});
