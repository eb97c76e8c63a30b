import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { type NdView, nd, packed, ShapeError, type TypedArray } from 'umwelt';
import { readSafetensors, writeSafetensors } from 'umwelt/formats';
import { ModelContractError, ModelLoadError } from 'umwelt/runtime';
import { afterAll, describe, expect, test } from 'vitest';
import { configFromJson } from '../../src/ssm/config.js';
import { readMambaWeights } from '../../src/ssm/mamba-weights.js';
import { readMamba2Weights } from '../../src/ssm/mamba2-weights.js';
import { openWeights, type WeightsSource } from '../../src/ssm/weights-source.js';
import { expectRefusal, expectThrow } from '../runtime/refusal.js';
import { serve, under } from '../runtime/serve.js';

type Tensors = Record<string, NdView<TypedArray>>;

const STACKS = fileURLToPath(new URL('../fixtures/ssm/stacks', import.meta.url));

function bytesOf(stack: string, file = 'model.safetensors'): Uint8Array {
  return readFileSync(join(STACKS, stack, file));
}

function checkpoint(stack: string, file?: string): Tensors {
  return readSafetensors(bytesOf(stack, file)).tensors;
}

function json(stack: string): unknown {
  return JSON.parse(readFileSync(join(STACKS, stack, 'config.json'), 'utf8'));
}

/** Numbers of no particular value, `[...shape]`. */
function filled(...shape: number[]): NdView {
  const size = shape.reduce((product, length) => product * length, 1);
  return nd(
    Float32Array.from({ length: size }, (_, i) => Math.sin(i)),
    shape,
  );
}

/** The elements of a float32 tensor. */
function floats(view: NdView<TypedArray>): Float32Array {
  return packed(view as NdView);
}

/** The checkpoint with some tensors replaced, added or (undefined) taken away. */
function edited(
  tensors: Tensors,
  changes: Record<string, NdView<TypedArray> | undefined>,
): Tensors {
  const entries = Object.entries({ ...tensors, ...changes });
  return Object.fromEntries(entries.filter(([, view]) => view !== undefined)) as Tensors;
}

function renamed(tensors: Tensors, rename: (key: string) => string): Tensors {
  return Object.fromEntries(Object.entries(tensors).map(([key, view]) => [rename(key), view]));
}

const readMamba = (tensors: Tensors, config = {}) =>
  readMambaWeights('MambaStack', tensors, config);
const readMamba2 = (tensors: Tensors, config = {}) =>
  readMamba2Weights('Mamba2Stack', tensors, config);

const MAMBA = checkpoint('mamba1-ssm');
const MAMBA2 = checkpoint('mamba2-ssm');
const GROUPED = { nGroups: 2 };
const LAYER = 'backbone.layers.0.';
const MIXER = `${LAYER}mixer.`;

/** The message of a refusal, by lines. */
function refusalOf(read: () => unknown): string[] {
  try {
    read();
  } catch (error) {
    expect(error).toBeInstanceOf(ModelContractError);
    return (error as Error).message.split('\n').map((line) => line.trim());
  }
  throw new Error('nothing was refused');
}

describe('Mamba-1 weights', () => {
  test('are read from a state-spaces checkpoint, whose keys become the terms of the formulas', () => {
    const { sizes, layers, finalNorm, normEps, mixerNormEps } = readMamba(MAMBA);
    expect(sizes).toEqual({
      dModel: 24,
      dInner: 48,
      dState: 16,
      dConv: 4,
      dtRank: 2,
      nLayers: 2,
    });
    expect([normEps, mixerNormEps]).toEqual([1e-5, 1e-6]);
    expect(layers).toHaveLength(2);
    for (const [i, layer] of layers.entries()) {
      const of = (name: string) => floats(MAMBA[`backbone.layers.${i}.${name}`]);
      const rates = Array.from(of('mixer.A_log'), (a) => -Math.exp(a));
      expect(layer).toEqual({
        norm: of('norm.weight'),
        inProj: of('mixer.in_proj.weight'),
        convWeight: of('mixer.conv1d.weight'),
        convBias: of('mixer.conv1d.bias'),
        xProj: of('mixer.x_proj.weight'),
        dtProj: of('mixer.dt_proj.weight'),
        dtBias: of('mixer.dt_proj.bias'),
        A: Float32Array.from(rates),
        D: of('mixer.D'),
        outProj: of('mixer.out_proj.weight'),
      });
    }
    expect(finalNorm).toEqual(packed(MAMBA['backbone.norm_f.weight']));
  });

  test('are read from a Hugging Face checkpoint with biases', () => {
    const tensors = checkpoint('mamba1-hf');
    const { sizes, layers } = readMamba(tensors, configFromJson(json('mamba1-hf'), 'mamba'));
    expect(sizes.dtRank).toBe(2);
    expect(layers[1].inProjBias).toEqual(packed(tensors['backbone.layers.1.mixer.in_proj.bias']));
    expect(layers[1].outProjBias).toEqual(packed(tensors['backbone.layers.1.mixer.out_proj.bias']));
  });

  test('with norms of dt, B and C are read where no key has a prefix and no conv has a bias', () => {
    const tensors = checkpoint('jamba-mixer');
    const { layers } = readMamba(tensors);
    expect(layers[0].convBias).toBeUndefined();
    for (const [name, part] of [['dtNorm', 'dt'] as const, ['bNorm', 'b'] as const]) {
      const weight = packed(tensors[`layers.0.mixer.${part}_layernorm.weight`]);
      expect(layers[0][name]).toEqual(weight);
    }
    expect(layers[1].cNorm).toEqual(packed(tensors['layers.1.mixer.c_layernorm.weight']));
  });

  test('of FalconMamba norm dt, B and C without scaling', () => {
    const config = configFromJson(json('falcon-mamba-hf'), 'mamba');
    const [layer] = readMamba(checkpoint('falcon-mamba-hf'), config).layers;
    expect(layer.dtNorm).toEqual(new Float32Array(3).fill(1));
    expect(layer.bNorm).toEqual(new Float32Array(16).fill(1));
    expect(layer.cNorm).toEqual(new Float32Array(16).fill(1));
  });

  test('norm dt, B and C only where the weights or the configuration say so', () => {
    const [layer] = readMamba(MAMBA).layers;
    expect([layer.dtNorm, layer.bNorm, layer.cNorm]).toEqual([undefined, undefined, undefined]);
    const partial = edited(MAMBA, { [`${MIXER}dt_layernorm.weight`]: filled(2) });
    expectThrow(
      () => readMamba(partial),
      ModelContractError,
      'missing keys: ',
      'backbone.layers.0.mixer.b_layernorm.weight',
      'backbone.layers.1.mixer.dt_layernorm.weight',
    );
    expectThrow(
      () => readMamba(partial, { mixerNorm: false }),
      ModelContractError,
      'extra keys: backbone.layers.0.mixer.dt_layernorm.weight',
    );
  });
});

describe('Mamba-2 weights', () => {
  test('are read from a state-spaces checkpoint, D repeated for the channels of each head', () => {
    const { sizes, layers, finalNorm, ...rest } = readMamba2(MAMBA2, GROUPED);
    expect(sizes).toEqual({
      dModel: 24,
      dInner: 48,
      dState: 16,
      dConv: 4,
      nHeads: 6,
      headDim: 8,
      nGroups: 2,
      nLayers: 2,
    });
    expect(rest).toEqual({ normEps: 1e-5, dtLimit: [0, Infinity], normBeforeGate: false });
    for (const [i, layer] of layers.entries()) {
      const of = (name: string) => floats(MAMBA2[`backbone.layers.${i}.${name}`]);
      const rates = Array.from(of('mixer.A_log'), (a) => -Math.exp(a));
      expect(layer).toEqual({
        norm: of('norm.weight'),
        inProj: of('mixer.in_proj.weight'),
        convWeight: of('mixer.conv1d.weight'),
        convBias: of('mixer.conv1d.bias'),
        dtBias: of('mixer.dt_bias'),
        A: Float32Array.from(rates),
        D: Float32Array.from({ length: 48 }, (_, d) => of('mixer.D')[Math.floor(d / 8)]),
        gateNorm: of('mixer.norm.weight'),
        outProj: of('mixer.out_proj.weight'),
      });
    }
    expect(finalNorm).toEqual(packed(MAMBA2['backbone.norm_f.weight']));
  });

  test('may have a D of each channel', () => {
    const perChannel = filled(48);
    const tensors = edited(MAMBA2, { [`${MIXER}D`]: perChannel });
    expect(readMamba2(tensors, GROUPED).layers[0].D).toEqual(perChannel.data);
  });

  test('are read from a Hugging Face checkpoint, in bfloat16 too', () => {
    const config = configFromJson(json('mamba2-hf'), 'mamba2');
    const exact = readMamba2(checkpoint('mamba2-hf'), config);
    const half = readMamba2(checkpoint('mamba2-hf', 'model-bf16.safetensors'), config);
    expect(half.sizes).toEqual(exact.sizes);
    const { inProj, inProjBias } = exact.layers[1];
    expect(half.layers[1].inProj).toHaveLength(inProj.length);
    expect(inProjBias).toHaveLength(166);
    for (let i = 0; i < inProj.length; i++) {
      // bfloat16 keeps 8 bits.
      const error = Math.abs(half.layers[1].inProj[i] - inProj[i]);
      expect(error).toBeLessThanOrEqual(Math.abs(inProj[i]) * 2 ** -8);
    }
    expect(half.layers[1].inProj).not.toEqual(inProj);
  });

  test('have the limit of dt and the gated MLPs of their configuration', () => {
    const limited = configFromJson(json('mamba2-limit-ssm'), 'mamba2');
    expect(readMamba2(checkpoint('mamba2-limit-ssm'), limited).dtLimit).toEqual([0.001, 0.1]);
    const tensors = checkpoint('mamba2-mlp-ssm');
    const { layers, sizes } = readMamba2(tensors, configFromJson(json('mamba2-mlp-ssm'), 'mamba2'));
    expect(sizes.dConv).toBe(3);
    expect(layers[1].mlp).toEqual({
      norm: packed(tensors['backbone.layers.1.norm2.weight']),
      fc1: packed(tensors['backbone.layers.1.mlp.fc1.weight']),
      fc2: packed(tensors['backbone.layers.1.mlp.fc2.weight']),
      hidden: 128,
    });
  });

  test('may lack the norm of the gate, unless the configuration wants it', () => {
    const bare = edited(MAMBA2, {
      'backbone.layers.0.mixer.norm.weight': undefined,
      'backbone.layers.1.mixer.norm.weight': undefined,
    });
    expect(readMamba2(bare, GROUPED).layers[0].gateNorm).toBeUndefined();
    expectThrow(
      () => readMamba2(bare, { ...GROUPED, gateNorm: true }),
      ModelContractError,
      'missing keys: backbone.layers.0.mixer.norm.weight, backbone.layers.1.mixer.norm.weight',
    );
  });

  test.each([3, 4])('refuse %i groups, which do not divide heads and channels', (nGroups) => {
    expectThrow(
      () => readMamba2(MAMBA2, { nGroups }),
      ModelContractError,
      'nGroups must divide the 6 heads, and twice nGroups the 64 channels of B and C',
      `got nGroups ${nGroups}`,
    );
  });

  test('refuse groups that fit but make another dState than the configured one', () => {
    expect(readMamba2(MAMBA2).sizes.dState).toBe(32);
    expectThrow(
      () => readMamba2(MAMBA2, { dState: 16 }),
      ModelContractError,
      'dState must be 32 as in the weights with nGroups 1, got 16',
    );
  });

  test('refuse a scan narrower than the layer', () => {
    // d_ssm 32 of d_inner 48, N 16, G 1, H 4: in_proj has 2 * 48 + 2 * 16 + 4 rows.
    const narrow: Record<string, NdView | undefined> = Object.fromEntries(
      [0, 1].flatMap((i) => {
        const mixer = `backbone.layers.${i}.mixer.`;
        return [
          [`${mixer}in_proj.weight`, filled(132, 24)],
          [`${mixer}conv1d.weight`, filled(64, 1, 4)],
          [`${mixer}conv1d.bias`, filled(64)],
          [`${mixer}A_log`, filled(4)],
          [`${mixer}D`, filled(4)],
          [`${mixer}dt_bias`, filled(4)],
          [`${mixer}norm.weight`, filled(32)],
        ];
      }),
    );
    const message = 'the scan must cover all 48 channels of out_proj, got 32 (d_ssm)';
    expectThrow(() => readMamba2(edited(MAMBA2, narrow)), ModelContractError, message);
    for (const i of [0, 1]) narrow[`backbone.layers.${i}.mixer.norm.weight`] = undefined;
    expectThrow(() => readMamba2(edited(MAMBA2, narrow)), ModelContractError, message);
  });
});

describe('a stack', () => {
  test('is found under any prefix', () => {
    for (const prefix of ['', 'sequence_model.backbone.', '_orig_mod.sequence_model.backbone.']) {
      const tensors = renamed(MAMBA, (key) => key.replace('backbone.', prefix));
      expect(readMamba(tensors).sizes.nLayers, prefix).toBe(2);
    }
  });

  test('shares the memory of float32 tensors', () => {
    expect(readMamba(MAMBA).layers[0].D).toBe(MAMBA[`${MIXER}D`].data);
  });

  test('of float64 is rounded to float32, but not before the exponential of A_log', () => {
    const wide = Object.fromEntries(
      Object.entries(MAMBA).map(([key, view]) => [
        key,
        nd(
          Float64Array.from(floats(view), (x) => x + 1e-9),
          view.shape,
        ),
      ]),
    );
    const [layer] = readMamba(wide).layers;
    const logarithms = wide[`${MIXER}A_log`].data as Float64Array;
    expect(layer.A).toEqual(Float32Array.from(logarithms, (a) => -Math.exp(a)));
    expect(layer.A).not.toEqual(Float32Array.from(logarithms, (a) => -Math.exp(Math.fround(a))));
    expect(layer.inProj).toEqual(
      Float32Array.from(wide[`${MIXER}in_proj.weight`].data as Float64Array),
    );
  });

  test('may be strided views', () => {
    const { data, shape } = MAMBA[`${MIXER}out_proj.weight`] as NdView;
    const [rows, columns] = shape;
    const transposed = Float32Array.from(
      { length: data.length },
      (_, i) => data[(i % rows) * columns + Math.floor(i / rows)],
    );
    const view = { data: transposed, shape, stride: [1, rows], offset: 0 };
    const tensors = edited(MAMBA, { [`${MIXER}out_proj.weight`]: view });
    expect(readMamba(tensors).layers[0].outProj).toEqual(data);
  });

  test('may end without a norm, which must be said', () => {
    const { 'backbone.norm_f.weight': norm, ...others } = MAMBA;
    expect(norm).toBeDefined();
    expect(readMamba(others, { finalNorm: false }).finalNorm).toBeUndefined();
    expect(readMamba(MAMBA, { finalNorm: false }).finalNorm).toBeUndefined();
    expectThrow(
      () => readMamba(others),
      ModelContractError,
      'missing keys: backbone.norm_f.weight; a stack that ends without a norm needs finalNorm: false',
    );
  });

  test('may lie beside the embeddings and the head of a token model, wherever that lies', () => {
    const model = { ...MAMBA, 'backbone.embeddings.weight': filled(16, 24) };
    expect(Object.keys(model)).toContain('lm_head.weight');
    expect(Object.keys(model)).toContain('backbone.embedding.weight');
    expect(readMamba(model).sizes.nLayers).toBe(2);
    expect(readMamba(renamed(model, (key) => `_orig_mod.${key}`)).sizes.nLayers).toBe(2);
    expect(readMamba(renamed(model, (key) => key.replace('backbone.', ''))).sizes.nLayers).toBe(2);
    expectThrow(
      () => readMamba({ ...MAMBA, 'other.lm_head.weight': filled(16, 24) }),
      ModelContractError,
      'extra keys: other.lm_head.weight',
    );
  });

  describe('inside a larger model', () => {
    const prefix = '_orig_mod.sequence_model.backbone.';
    const stack = edited(
      renamed(MAMBA, (key) => key.replace('backbone.', prefix)),
      {
        'lm_head.weight': undefined,
      },
    );
    const model = {
      ...stack,
      [`${prefix}stem.0.weight`]: filled(24, 30),
      [`${prefix}stem.1.scale`]: filled(24),
      '_orig_mod.encoder.backbone.0.weight': filled(4, 3, 5, 5),
      '_orig_mod.encoder.backbone.1.num_batches_tracked': nd(new BigInt64Array(1), []),
    };

    test('needs a prefix and the beginnings of keys to ignore', () => {
      const lines = refusalOf(() => readMamba(model));
      expect(lines[1]).toBe(
        'extra keys: _orig_mod.sequence_model.backbone.stem.0.weight, ' +
          '_orig_mod.sequence_model.backbone.stem.1.scale, _orig_mod.encoder.backbone.0.weight, ' +
          '_orig_mod.encoder.backbone.1.num_batches_tracked; ' +
          `pass prefix: '${prefix}' to read only the keys under it; ` +
          "leave out what runs elsewhere, as in ignore: ['stem.']",
      );
      expect(readMamba(model, { prefix, ignore: ['stem.'] }).sizes.nLayers).toBe(2);
      const ignore = ['stem.', '_orig_mod.encoder.'];
      expect(readMamba(model, { ignore }).sizes.nLayers).toBe(2);
      expect(readMamba(model, { prefix, ignore: [`${prefix}stem.`] }).sizes.nLayers).toBe(2);
    });

    test('with a prefix has extra keys only under it', () => {
      const [, extra] = refusalOf(() => readMamba(model, { prefix }));
      expect(extra).toBe(
        `extra keys: ${prefix}stem.0.weight, ${prefix}stem.1.scale; ` +
          "leave out what runs elsewhere, as in ignore: ['stem.']",
      );
    });

    test('is chosen by its prefix where there are several', () => {
      const two = { ...model, ...renamed(MAMBA2, (key) => key.replace('backbone.', 'other.')) };
      expectThrow(
        () => readMamba(two),
        ModelContractError,
        `must hold one stack, got layers under '${prefix}' and 'other.'`,
        `prefix: '${prefix}'`,
      );
      expect(readMamba(two, { prefix, ignore: ['stem.'] }).sizes.nLayers).toBe(2);
      expect(readMamba2(two, { prefix: 'other.', nGroups: 2 }).sizes.nLayers).toBe(2);
    });

    test('is not found under a prefix it does not have', () => {
      expectThrow(
        () => readMamba(model, { prefix: 'sequence_model.backbone.' }),
        ModelContractError,
        `prefix must be what the keys of a stack begin with, here '${prefix}'`,
        "got 'sequence_model.backbone.'",
      );
    });
  });
});

describe('a checkpoint is refused', () => {
  test('with one message that names all missing and extra keys, wrong shapes and sizes', () => {
    const tensors = edited(MAMBA, {
      [`${MIXER}D`]: undefined,
      'backbone.layers.1.mixer.dt_proj.bias': undefined,
      'backbone.norm_f.weight': undefined,
      'backbone.layers.1.mixer.extra': filled(3),
      'encoder.weight': filled(2, 2),
      [`${MIXER}out_proj.weight`]: filled(48, 24),
      'backbone.layers.1.mixer.A_log': filled(48, 17),
      'backbone.layers.1.mixer.conv1d.weight': filled(48, 4),
      [`${LAYER}norm.weight`]: nd(new Float32Array(24).fill(Number.NaN, 3)),
    });
    expect(refusalOf(() => readMamba(tensors, { dModel: 32, nLayers: 3 }))).toEqual([
      "MambaStack: the weights under 'backbone.' must be those of a Mamba-1 stack",
      'dModel must be 24 as in the weights, got 32',
      'nLayers must be 2 as in the weights, got 3',
      'backbone.layers.0.norm.weight: must give finite float32 values, got NaN at [3]',
      'missing keys: backbone.layers.0.mixer.D, backbone.layers.1.mixer.dt_proj.bias, ' +
        'backbone.norm_f.weight; save the whole state_dict',
      'extra keys: backbone.layers.1.mixer.extra, encoder.weight; ' +
        'check that the configuration is that of the training code; ' +
        "pass prefix: 'backbone.' to read only the keys under it",
      'wrong shapes (dModel 24, dInner 48, dState 16, dConv 4, dtRank 2, nLayers 2):',
      'backbone.layers.0.mixer.out_proj.weight: must be [24, 48], got [48, 24]',
      'backbone.layers.1.mixer.conv1d.weight: must be [48, 1, 4], got [48, 4]',
      'backbone.layers.1.mixer.A_log: must be [48, 16], got [48, 17]',
    ]);
  });

  // Nothing but the configuration bears witness to the taps of two convolutions that disagree.
  describe.each([
    { stack: 'mamba1-hf', read: readMamba, config: { dConv: 4 } },
    { stack: 'jamba-mixer', read: readMamba, config: { dConv: 4 } },
    { stack: 'mamba2-hf', read: readMamba2, config: { dConv: 4, nGroups: 2 } },
    { stack: 'mamba2-mlp-ssm', read: readMamba2, config: { dConv: 3, nGroups: 2 } },
  ])('like that of $stack', ({ stack, read, config }) => {
    const tensors = checkpoint(stack);
    const keys = Object.keys(tensors).filter((key) => /(^|\.)layers\./.test(key));

    test('without any one tensor of its layers, naming no other', () => {
      expect(keys.length).toBeGreaterThanOrEqual(20);
      for (const key of keys) {
        const part = edited(tensors, { [key]: undefined });
        const [, ...problems] = refusalOf(() => read(part, config));
        expect(problems).toEqual([`missing keys: ${key}; save the whole state_dict`]);
      }
    });

    test('with any one axis of its layers too long, naming no other tensor', () => {
      for (const key of keys) {
        const { shape } = tensors[key];
        for (const axis of shape.keys()) {
          const longer = shape.map((length, i) => (i === axis ? length + 3 : length));
          const wrong = edited(tensors, { [key]: filled(...longer) });
          const [, heading, ...problems] = refusalOf(() => read(wrong, config));
          const [must, got] = [shape.join(', '), longer.join(', ')];
          expect(heading).toMatch(/^wrong shapes/);
          expect(problems).toEqual([`${key}: must be [${must}], got [${got}]`]);
        }
      }
    });
  });

  test('when it is of the other family, naming the class that reads it', () => {
    expectThrow(
      () => readMamba(MAMBA2),
      ModelContractError,
      'these look like Mamba-2 weights; load them with Mamba2Stack',
    );
    expectThrow(
      () => readMamba2(MAMBA),
      ModelContractError,
      'these look like Mamba-1 weights; load them with MambaStack',
    );
  });

  test('with weights that are not finite, or overflow float32 or the exponential', () => {
    const bad: [string, TypedArray, string][] = [
      ['dt_proj.weight', new Float32Array(96).fill(Infinity, 3), 'got Infinity at [1, 1]'],
      ['D', new Float64Array(48).fill(1e39, 5), 'got 1e+39 at [5]'],
      ['A_log', new Float32Array(768).fill(100, 17), 'got 100 at [1, 1]'],
      ['A_log', new Float32Array(768).fill(-Infinity, 767), 'got -Infinity at [47, 15]'],
    ];
    for (const [name, data, got] of bad) {
      const key = MIXER + name;
      const tensors = edited(MAMBA, { [key]: nd(data, MAMBA[key].shape) });
      expectThrow(
        () => readMamba(tensors),
        ModelContractError,
        `${key}: must give finite float32 values, ${got}`,
      );
    }
  });

  test('with tensors of other kinds', () => {
    const key = `${MIXER}D`;
    const whole = edited(MAMBA, { [key]: nd(new Int32Array(48)) });
    expectThrow(
      () => readMamba(whole),
      TypeError,
      `${key} must be float32 or float64, got a [48] view of Int32Array`,
    );
    const list = { ...MAMBA, [key]: [1, 2] as unknown as NdView };
    expectThrow(() => readMamba(list), TypeError, `${key} must be a view, got an array`);
    const short = edited(MAMBA, { [key]: { ...MAMBA[key], offset: 1 } });
    expectThrow(() => readMamba(short), ShapeError, key, 'within its 48 elements');
    expectThrow(() => readMamba(filled(3) as unknown as Tensors), TypeError, 'views by key');
  });

  test('with LayerNorm, which is named rather than taken for leftovers', () => {
    const tensors = { ...MAMBA, [`${LAYER}norm.bias`]: filled(24) };
    const [, extra] = refusalOf(() => readMamba(tensors));
    expect(extra).toBe(
      'extra keys: backbone.layers.0.norm.bias; ' +
        'norms with a bias are LayerNorm, which is not supported: train with RMSNorm',
    );
  });

  test('with gaps between layers, or a number no file can reach', () => {
    const gap = renamed(MAMBA, (key) => key.replace('layers.1.', 'layers.2.'));
    const [, missing, ...more] = refusalOf(() => readMamba(gap));
    expect(missing).toMatch(/^missing keys: (backbone\.layers\.1\.[\w.]+, ){9}backbone\.layers\.1/);
    expect(more).toEqual([]);
    const far = { ...MAMBA, 'backbone.layers.99999999.norm.weight': filled(24) };
    expectThrow(() => readMamba(far), ModelContractError, 'without gaps, got layer 99999999');
  });

  test('without any layers', () => {
    expectThrow(() => readMamba({}), ModelContractError, 'layers.0.mixer.A_log, got none');
    expectThrow(
      () => readMamba({ 'model.layers.0.self_attn.q_proj.weight': filled(2, 2) }),
      ModelContractError,
      'got model.layers.0.self_attn.q_proj.weight',
    );
  });

  test('without elements', () => {
    const names = ['A_log', 'D', 'dt_bias', 'in_proj.weight', 'conv1d.weight', 'out_proj.weight'];
    const ranks = [1, 1, 1, 2, 3, 2];
    const empty = (rank: number) => nd(new Float32Array(0), new Array(rank).fill(0));
    const tensors = Object.fromEntries(
      names.map((n, i) => [`layers.0.mixer.${n}`, empty(ranks[i])]),
    );
    const all = { ...tensors, 'layers.0.norm.weight': empty(1), 'norm_f.weight': empty(1) };
    expect(() => readMamba2(all)).toThrow(ModelContractError);
    const bare = edited(all, {
      'layers.0.mixer.conv1d.weight': nd(new Float32Array(0), [0, 1, 0]),
    });
    expectThrow(
      () => readMamba2(bare),
      ModelContractError,
      'must be positive, got tensors without',
    );
  });

  test('with biases in one projection alone', () => {
    const tensors = checkpoint('mamba1-hf');
    const half = edited(tensors, {
      'backbone.layers.0.mixer.out_proj.bias': undefined,
      'backbone.layers.1.mixer.out_proj.bias': undefined,
    });
    const [, missing] = refusalOf(() => readMamba(half));
    expect(missing).toContain(
      'layers.0.mixer.out_proj.bias, backbone.layers.1.mixer.out_proj.bias',
    );
  });

  test('with parts the configuration denies, or without those it claims', () => {
    const biased = checkpoint('mamba1-hf');
    expectThrow(
      () => readMamba(biased, { bias: false }),
      ModelContractError,
      'extra keys: backbone.layers.0.mixer.in_proj.bias',
    );
    expectThrow(
      () => readMamba(MAMBA, { bias: true }),
      ModelContractError,
      'missing keys: backbone.layers.0.mixer.in_proj.bias',
    );
    expectThrow(
      () => readMamba(MAMBA, { convBias: false }),
      ModelContractError,
      'extra keys: backbone.layers.0.mixer.conv1d.bias',
    );
    const mlp = checkpoint('mamba2-mlp-ssm');
    expectThrow(
      () => readMamba2(mlp, { ...GROUPED, dIntermediate: 0 }),
      ModelContractError,
      'extra keys: backbone.layers.0.mlp.fc1.weight',
    );
    expectThrow(
      () => readMamba2(mlp, { ...GROUPED, dIntermediate: 256 }),
      ModelContractError,
      'dIntermediate must be 128 as in the weights, got 256',
    );
    expectThrow(
      () => readMamba2(MAMBA2, { ...GROUPED, dIntermediate: 128 }),
      ModelContractError,
      'missing keys: backbone.layers.0.norm2.weight, backbone.layers.0.mlp.fc1.weight',
    );
  });
});

describe('a source of weights', () => {
  const scratch = mkdtempSync(join(tmpdir(), 'umwelt-weights-'));
  afterAll(() => rmSync(scratch, { recursive: true, force: true }));

  let folders = 0;
  function folderOf(files: Record<string, Uint8Array | string>): string {
    const folder = join(scratch, `weights${folders++}`);
    mkdirSync(folder);
    for (const [name, file] of Object.entries(files)) writeFileSync(join(folder, name), file);
    return folder;
  }

  const whole = bytesOf('mamba1-ssm');
  const keys = Object.keys(MAMBA);
  const shards = ([0, 1] as const).map((half) =>
    Object.fromEntries(Object.entries(MAMBA).filter((_, i) => i % 2 === half)),
  );
  const shardName = (i: number) => `model-0000${i + 1}-of-00002.safetensors`;
  const sharded = {
    [shardName(0)]: writeSafetensors(shards[0]),
    [shardName(1)]: writeSafetensors(shards[1]),
    'model.safetensors.index.json': JSON.stringify({
      metadata: { total_size: 1 },
      weight_map: Object.fromEntries(keys.map((key, i) => [key, shardName(i % 2)])),
    }),
  };

  async function expectTensors(source: WeightsSource): Promise<void> {
    const { tensors } = await openWeights(source);
    expect(Object.keys(tensors).sort()).toEqual([...keys].sort());
    for (const key of keys) {
      expect(tensors[key].shape).toEqual(MAMBA[key].shape);
      expect(packed(tensors[key])).toEqual(packed(MAMBA[key]));
    }
  }

  test('may be a file, by path, file URL or web address', async () => {
    const file = join(STACKS, 'mamba1-ssm', 'model.safetensors');
    await expectTensors(file);
    await expectTensors(pathToFileURL(file));
    await using server = await serve(under('/a b', { 'w.safetensors': whole }));
    await expectTensors(`${server.url}/a%20b/w.safetensors?token=x`);
    // Only under its usual name does it have a configuration beside it.
    expect(server.requests).toEqual(['/a%20b/w.safetensors?token=x']);
    const { where } = await openWeights(file);
    expect(where).toBe(`'model.safetensors' of ${join(STACKS, 'mamba1-ssm')}`);
  });

  test('may be a file that has a config.json beside it, which is told apart', async () => {
    const { json, isBeside } = await openWeights(join(STACKS, 'mamba1-ssm', 'model.safetensors'));
    expect(json).toMatchObject({ ssm_cfg: { layer: 'Mamba1' } });
    expect(isBeside).toBe(true);
    const folder = await openWeights(join(STACKS, 'mamba1-ssm'));
    expect(folder.isBeside).toBeUndefined();
    const other = folderOf({ 'w.safetensors': whole, 'config.json': '{}' });
    expect((await openWeights(join(other, 'w.safetensors'))).json).toBeUndefined();
    // Nobody asked for it, so what cannot be read counts as none.
    const odd = folderOf({ 'model.safetensors': whole, 'config.json': '<html>' });
    expect((await openWeights(join(odd, 'model.safetensors'))).json).toBeUndefined();
    await using server = await serve({
      '/c/model.safetensors': whole,
      '/c/config.json': (response) => response.writeHead(403).end(),
    });
    const answer = await openWeights(`${server.url}/c/model.safetensors`);
    expect(answer.json).toBeUndefined();
  });

  test('may be a folder, with or without config.json', async () => {
    const files = { 'model.safetensors': whole };
    const bare = folderOf(files);
    await expectTensors(bare);
    expect(await openWeights(bare)).toMatchObject({ where: bare });
    expect((await openWeights(bare)).json).toBeUndefined();
    const config = '{ "dt_limit": [0.0, Infinity], "name": "not Infinity" }';
    const full = { ...files, 'config.json': config };
    const parsed = { dt_limit: [0, { __float__: 'Infinity' }], name: 'not Infinity' };
    expect((await openWeights(folderOf(full))).json).toEqual(parsed);
    await using server = await serve({ ...under('/with', full), ...under('/without', files) });
    expect((await openWeights(`${server.url}/with`)).json).toEqual(parsed);
    expect((await openWeights(`${server.url}/without`)).json).toBeUndefined();
    await expectTensors(`${server.url}/without/`);
  });

  test('may be a folder of shards', async () => {
    await expectTensors(folderOf(sharded));
    await using server = await serve(under('/shards', sharded));
    await expectTensors(`${server.url}/shards`);
  });

  test('may be bytes, or tensors in memory with vectors as typed arrays', async () => {
    await expectTensors(whole);
    const vectors = Object.entries(MAMBA).map(
      ([key, view]) => [key, view.shape.length === 1 ? view.data : view] as const,
    );
    await expectTensors(Object.fromEntries(vectors));
    expect((await openWeights(MAMBA)).where).toBe('the given tensors');
  });

  test('that does not exist is refused', async () => {
    const nowhere = join(scratch, 'nowhere');
    await expectRefusal(openWeights(nowhere), ModelLoadError, nowhere, 'ENOENT');
    await expectRefusal(openWeights(`${nowhere}.safetensors`), ModelLoadError, 'ENOENT');
  });

  test('without safetensors is refused, saying how to write them', async () => {
    const pickled = folderOf({ 'pytorch_model.bin': 'PK', 'config.json': '{}' });
    const remedy = 'safetensors.torch.save_file(model.state_dict(), path)';
    for (const place of [pickled, join(pickled, 'pytorch_model.bin')]) {
      const must = `${place} must be a .safetensors or .onnx file or a folder with model.safetensors`;
      await expectRefusal(openWeights(place), ModelLoadError, must, remedy);
    }
    await using server = await serve({});
    await expectRefusal(openWeights(`${server.url}/x`), ModelLoadError, remedy);
  });

  test('that cannot be read is not taken for an absent one', async () => {
    await using server = await serve({
      '/m/model.safetensors': (response) => response.writeHead(403).end(),
      '/c/model.safetensors': whole,
      '/c/config.json': (response) => response.writeHead(500).end(),
    });
    await expectRefusal(openWeights(`${server.url}/m`), ModelLoadError, 'HTTP 403');
    await expectRefusal(openWeights(`${server.url}/c`), ModelLoadError, 'config.json', 'HTTP 500');
  });

  test('that is damaged is refused, naming the file', async () => {
    const cut = folderOf({ 'model.safetensors': whole.subarray(0, 1000) });
    const must = `'model.safetensors' of ${cut} must be a safetensors file: readSafetensors: `;
    await expectRefusal(openWeights(cut), ModelLoadError, must);
    await expectRefusal(openWeights(new Uint8Array(9)), ModelLoadError, 'the given bytes must be');
    const text = folderOf({ 'model.safetensors': whole, 'config.json': '<html>' });
    await expectRefusal(openWeights(text), ModelLoadError, `config.json in ${text} is not JSON`);
  });

  test('never leads out of its folder', async () => {
    const index = (file: string) => ({
      'model.safetensors.index.json': JSON.stringify({ weight_map: { a: file } }),
    });
    for (const file of ['../secret.safetensors', '/etc/passwd', 'a/../../b', 'C:\\x']) {
      await expectRefusal(openWeights(folderOf(index(file))), ModelLoadError, 'inside the folder');
    }
    const outside = join(folderOf({ 'secret.safetensors': whole }), 'secret.safetensors');
    const linked = folderOf({});
    symlinkSync(outside, join(linked, 'model.safetensors'));
    await expectRefusal(openWeights(linked), ModelLoadError, 'the link leads out of the folder');
  });

  test('of shards is refused when they are not what their index says', async () => {
    const index = 'model.safetensors.index.json';
    const gone = { ...sharded };
    delete (gone as Record<string, unknown>)[shardName(1)];
    await expectRefusal(openWeights(folderOf(gone)), ModelLoadError, shardName(1), 'ENOENT');
    const [first] = Object.keys(shards[1]);
    await expectRefusal(
      openWeights(folderOf({ ...sharded, [shardName(1)]: writeSafetensors({ b: filled(1) }) })),
      ModelLoadError,
      `'${shardName(1)}' of `,
      `must hold the tensors ${index} says, got none of ${first}, `,
    );
    const both = { ...shards[1], [keys[0]]: MAMBA[keys[0]] };
    await expectRefusal(
      openWeights(folderOf({ ...sharded, [shardName(1)]: writeSafetensors(both) })),
      ModelLoadError,
      `got ${keys[0]} twice`,
    );
    for (const map of ['{}', 'null', '{ "weight_map": {} }', '{ "weight_map": { "a": 1 } }']) {
      const folder = folderOf({ [index]: map });
      await expectRefusal(
        openWeights(folder),
        ModelLoadError,
        `weight_map of ${index} in ${folder}`,
      );
    }
  });

  test('of another kind is refused', async () => {
    for (const source of [3, null, undefined, [MAMBA], filled(2), new Float32Array(2)]) {
      const opened = openWeights(source as unknown as WeightsSource);
      await expectRefusal(opened, TypeError, 'source must be a path, a URL, the bytes');
    }
    const opened = openWeights({ a: 'x' } as unknown as WeightsSource);
    await expectRefusal(opened, TypeError, 'a must be a view, got string');
  });
});
