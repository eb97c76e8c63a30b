import * as ort from 'onnxruntime-node';
import { Network } from 'umwelt';
import { type GraphSpec, type ValueSpec, writeModel } from 'umwelt/onnx';
import { ModelContractError } from 'umwelt/runtime';
import { describe, expect, test } from 'vitest';
import { WireWriter } from '../../src/onnx/wire-writer.js';
import {
  identityModel,
  nestedRandomModel,
  randomNormalLikeModel,
  unknownRankGruModel,
} from '../support/onnx-builder.js';
import { expectRefusal } from './refusal.js';

describe('inputs and outputs', () => {
  test('have their names, dtypes and shapes, fixed, symbolic and unnamed', async () => {
    const tensors: ValueSpec[] = [
      { name: 'obs', shape: ['B', 11] },
      { name: 'ids', dtype: 'int64', shape: ['B', ''] },
      { name: 'flag', dtype: 'bool', shape: [] },
      { name: 'half', dtype: 'float16', shape: [2, 3, 4] },
    ];
    const model = writeModel({
      graph: {
        inputs: tensors,
        outputs: tensors.map((tensor) => ({ ...tensor, name: `${tensor.name}Out` })),
        nodes: tensors.map(({ name }) => ({
          op: 'Identity',
          inputs: [name],
          outputs: [`${name}Out`],
        })),
      },
    });
    await using network = await Network.load(ort, model);
    expect(network.inputs).toMatchObject([
      { name: 'obs', dtype: 'float32', shape: ['B', 11] },
      { name: 'ids', dtype: 'int64', shape: ['B', ''] },
      { name: 'flag', dtype: 'bool', shape: [] },
      { name: 'half', dtype: 'float16', shape: [2, 3, 4] },
    ]);
    expect(network.outputs.map(({ name }) => name)).toEqual([
      'obsOut',
      'idsOut',
      'flagOut',
      'halfOut',
    ]);
    expect(network.outputs[2].shape).toEqual([]);
  });

  test('tell a scalar output, [], from one of unknown rank, null', async () => {
    const model = (shape: ValueSpec['shape']) =>
      writeModel({
        graph: {
          inputs: [{ name: 'x', shape: [] }],
          outputs: [{ name: 'y', shape }],
          nodes: [{ op: 'Identity', inputs: ['x'], outputs: ['y'] }],
        },
      });
    await using scalar = await Network.load(ort, model([]));
    await using unknown = await Network.load(ort, model(null));
    expect(scalar.outputs[0].shape).toEqual([]);
    expect(unknown.outputs[0].shape).toBeNull();
  });

  test('do not count a weight that is also listed as an input', async () => {
    const model = writeModel({
      graph: {
        inputs: [
          { name: 'x', shape: ['B', 1] },
          { name: 'w', shape: [1] },
        ],
        outputs: [{ name: 'y', shape: ['B', 1] }],
        initializers: [{ name: 'w', shape: [1], data: Float32Array.of(3) }],
        nodes: [{ op: 'Mul', inputs: ['x', 'w'], outputs: ['y'] }],
      },
    });
    await using network = await Network.load(ort, model);
    expect(network.inputs.map(({ name }) => name)).toEqual(['x']);
  });
});

describe('an input of unknown rank', () => {
  test('is refused before ONNX Runtime sees it, with the remedy', async () => {
    for (const model of [unknownRankGruModel(), identityModel('float32', null)]) {
      await expectRefusal(
        Network.load(ort, model),
        ModelContractError,
        "input 'x'",
        'known rank',
        'export it with a shape',
      );
    }
  });
});

describe('an input or output that is no tensor', () => {
  /** `y = x`, both a sequence of float32 tensors. */
  function sequenceModel(): Uint8Array {
    const sequence = new WireWriter().message(
      1,
      new WireWriter().message(1, new WireWriter().int(1, 1)),
    );
    const value = (name: string) =>
      new WireWriter().text(1, name).message(2, new WireWriter().message(4, sequence));
    const graph = new WireWriter()
      .message(1, new WireWriter().text(1, 'x').text(2, 'y').text(4, 'Identity'))
      .text(2, 'sequences')
      .message(11, value('x'))
      .message(12, value('y'));
    const opset = new WireWriter().text(1, '').int(2, 21);
    return new WireWriter().int(1, 10).message(7, graph).message(8, opset).finish();
  }

  test('is refused as such', async () => {
    await expectRefusal(
      Network.load(ort, sequenceModel()),
      ModelContractError,
      "'x'",
      'must be a tensor',
      'sequences',
    );
  });

  test('nor one of strings, which no view can hold', async () => {
    await expectRefusal(
      Network.load(ort, identityModel('string')),
      ModelContractError,
      "'x'",
      'string',
    );
  });
});

describe('random operators', () => {
  const x: ValueSpec = { name: 'x', shape: ['B', 3] };
  const float: ValueSpec['shape'] = ['B', 3];
  const noise: GraphSpec['nodes'] = [
    { op: 'RandomNormalLike', name: 'draw', inputs: ['x'], outputs: ['drawn'] },
  ];

  const alone = (op: string, attributes = {}) =>
    writeModel({
      graph: {
        inputs: [x],
        outputs: [{ name: 'y', shape: null }],
        nodes: [
          {
            op,
            inputs: op.endsWith('Normal') || op.endsWith('Uniform') ? [] : ['x'],
            outputs: ['y'],
            attributes,
          },
        ],
      },
    });

  const loop = writeModel({
    graph: {
      inputs: [x],
      outputs: [{ name: 'y', shape: float }],
      initializers: [{ name: 'trips', shape: [], data: BigInt64Array.of(2n) }],
      nodes: [
        {
          op: 'Loop',
          name: 'repeat',
          inputs: ['trips', '', 'x'],
          outputs: ['y'],
          attributes: {
            body: {
              graph: {
                inputs: [
                  { name: 'i', dtype: 'int64', shape: [] },
                  { name: 'go', dtype: 'bool', shape: [] },
                  { name: 'carried', shape: float },
                ],
                outputs: [
                  { name: 'goOn', dtype: 'bool', shape: [] },
                  { name: 'drawn', shape: float },
                ],
                nodes: [...noise, { op: 'Identity', inputs: ['go'], outputs: ['goOn'] }],
              },
            },
          },
        },
      ],
    },
  });

  const scan = writeModel({
    graph: {
      inputs: [{ name: 'xs', shape: [4, 3] }],
      outputs: [{ name: 'y', shape: [4, 3] }],
      nodes: [
        {
          op: 'Scan',
          inputs: ['xs'],
          outputs: ['y'],
          attributes: {
            num_scan_inputs: { int: 1 },
            body: {
              graph: {
                inputs: [{ name: 'x', shape: [3] }],
                outputs: [{ name: 'drawn', shape: [3] }],
                nodes: noise,
              },
            },
          },
        },
      ],
    },
  });

  const local = writeModel({
    opsets: { 'my.ops': 1 },
    functions: [
      { name: 'Noisy', domain: 'my.ops', inputs: ['x'], outputs: ['drawn'], nodes: noise },
    ],
    graph: {
      inputs: [x],
      outputs: [{ name: 'y', shape: float }],
      nodes: [{ op: 'Noisy', domain: 'my.ops', inputs: ['x'], outputs: ['y'] }],
    },
  });

  test.each([
    ['in the graph', 'RandomNormalLike', randomNormalLikeModel()],
    ['with a seed', 'RandomNormalLike', randomNormalLikeModel(7)],
    ['in a branch of If', 'then_branch', nestedRandomModel()],
    ['in the body of Loop', 'Loop "repeat" > body', loop],
    ['in the body of Scan', 'Scan > body', scan],
    ['in a function of the model', 'function my.ops.Noisy', local],
    ['as Bernoulli', 'Bernoulli', alone('Bernoulli')],
    ['as Multinomial', 'Multinomial', alone('Multinomial')],
    ['as RandomNormal', 'RandomNormal', alone('RandomNormal', { shape: { ints: [2] } })],
    ['as RandomUniform', 'RandomUniform', alone('RandomUniform', { shape: { ints: [2] } })],
    ['as RandomUniformLike', 'RandomUniformLike', alone('RandomUniformLike')],
  ])('%s are refused, saying where and what to do instead', async (_, place, model) => {
    await expectRefusal(
      Network.load(ort, model),
      ModelContractError,
      'draws random numbers',
      place,
      'cannot seed',
      'export the distribution parameters',
      'make the noise an input',
    );
  });

  test('that Dropout becomes in training mode are refused too', async () => {
    const model = writeModel({
      graph: {
        inputs: [x],
        outputs: [{ name: 'y', shape: float }],
        initializers: [
          { name: 'ratio', shape: [], data: Float32Array.of(0.5) },
          { name: 'training', dtype: 'bool', shape: [], data: Uint8Array.of(1) },
        ],
        nodes: [{ op: 'Dropout', inputs: ['x', 'ratio', 'training'], outputs: ['y'] }],
      },
    });
    await expectRefusal(Network.load(ort, model), ModelContractError, 'Dropout');
  });

  test('are not seen in an ordinary Dropout, which does nothing', async () => {
    const model = writeModel({
      graph: {
        inputs: [x],
        outputs: [{ name: 'y', shape: float }],
        nodes: [{ op: 'Dropout', inputs: ['x'], outputs: ['y'] }],
      },
    });
    await using network = await Network.load(ort, model);
    expect(network.device).toBe('cpu');
  });
});
