import { readFileSync } from 'node:fs';
import { ModelContractError } from 'umwelt/runtime';
import { describe, expect, test } from 'vitest';
import {
  checkConfig,
  configFromJson,
  MAMBA_CONFIG_KEYS,
  MAMBA2_CONFIG_KEYS,
  type MambaConfig,
  parsePythonJson,
} from '../../src/ssm/config.js';
import { expectThrow } from '../runtime/refusal.js';

function fixture(stack: string): unknown {
  const url = new URL(`../fixtures/ssm/stacks/${stack}/config.json`, import.meta.url);
  return parsePythonJson(readFileSync(url, 'utf8'));
}

describe('config.json', () => {
  test('of transformers gives the sizes and what the weights leave open', () => {
    expect(configFromJson(fixture('mamba1-hf'), 'mamba')).toEqual({
      normEps: 1e-5,
      bias: true,
      convBias: true,
      dIntermediate: 0,
      dModel: 24,
      dInner: 48,
      dState: 16,
      dConv: 4,
      nLayers: 2,
      dtRank: 2,
    });
    expect(configFromJson(fixture('mamba2-hf'), 'mamba2')).toEqual({
      normEps: 1e-5,
      bias: true,
      convBias: true,
      dIntermediate: 0,
      dModel: 24,
      dInner: 48,
      dState: 16,
      dConv: 4,
      nLayers: 2,
      nHeads: 6,
      headDim: 8,
      nGroups: 2,
      dtLimit: [0, Infinity],
      normBeforeGate: false,
      gateNorm: true,
    });
  });

  test('of FalconMamba asks for norms of dt, B and C', () => {
    const config = configFromJson(fixture('falcon-mamba-hf'), 'mamba');
    expect(config).toMatchObject({ mixerNorm: true, mixerNormEps: 1e-6, dtRank: 3, bias: false });
    const other = configFromJson({ model_type: 'falcon_mamba', mixer_rms_eps: 1e-3 }, 'mamba');
    expect(other.mixerNormEps).toBe(1e-3);
    expect(configFromJson(fixture('mamba1-hf'), 'mamba')).not.toHaveProperty('mixerNorm');
  });

  test('of state-spaces gives the arguments of its mixers', () => {
    expect(configFromJson(fixture('mamba1-ssm'), 'mamba')).toEqual({
      normEps: 1e-5,
      bias: false,
      convBias: true,
      dIntermediate: 0,
      dModel: 24,
      dState: 16,
      nLayers: 2,
    });
    expect(configFromJson(fixture('mamba2-limit-ssm'), 'mamba2')).toEqual({
      normEps: 1e-5,
      bias: false,
      convBias: true,
      dIntermediate: 0,
      dModel: 24,
      dState: 16,
      nLayers: 2,
      nGroups: 1,
      headDim: 8,
      dtLimit: [0.001, 0.1],
      normBeforeGate: false,
      gateNorm: true,
    });
    const json = {
      d_model: 40,
      norm_epsilon: 1e-6,
      ssm_cfg: {
        layer: 'Mamba2',
        expand: 3,
        d_ssm: 120,
        ngroups: 4,
        conv_bias: false,
        bias: true,
        rmsnorm: false,
        norm_before_gate: true,
        chunk_size: 64,
      },
    };
    expect(configFromJson(json, 'mamba2')).toMatchObject({
      normEps: 1e-6,
      dInner: 120,
      nGroups: 4,
      convBias: false,
      bias: true,
      gateNorm: false,
      normBeforeGate: true,
    });
  });

  test('of state-spaces rounds the hidden units of an MLP up to a multiple of 128, as it does', () => {
    const hidden = (d_intermediate?: number | null) =>
      configFromJson({ d_model: 8, d_intermediate }, 'mamba').dIntermediate;
    expect([32, 128, 129, 0, null, undefined].map(hidden)).toEqual([128, 128, 256, 0, 0, 0]);
  });

  test('resolves the rank of dt that is auto', () => {
    const mamba = { model_type: 'mamba', hidden_size: 40, time_step_rank: 'auto' };
    expect(configFromJson(mamba, 'mamba').dtRank).toBe(3);
    expect(configFromJson({ d_model: 40, ssm_cfg: { dt_rank: 'auto' } }, 'mamba').dtRank).toBe(3);
    expect(configFromJson({ ...mamba, time_step_rank: 5 }, 'mamba').dtRank).toBe(5);
  });

  test('takes the defaults of the Python that wrote it, not one default for all', () => {
    expect(configFromJson({ model_type: 'mamba2' }, 'mamba2').nGroups).toBe(8);
    expect(configFromJson({ d_model: 8 }, 'mamba2').nGroups).toBe(1);
    expect(configFromJson({ model_type: 'mamba2', n_groups: null }, 'mamba2').nGroups).toBe(8);
  });

  test('of transformers never norms before the gate, whatever it says', () => {
    // transformers has no such field; files converted from other code may.
    const json = { model_type: 'mamba2', norm_before_gate: true };
    expect(configFromJson(json, 'mamba2').normBeforeGate).toBe(false);
  });

  test('may spell an infinite limit of dt as Python does, or as transformers does', () => {
    const texts = [
      '{ "model_type": "mamba2", "time_step_limit": [0.0, Infinity] }',
      '{ "model_type": "mamba2", "time_step_limit": [0.0, { "__float__": "Infinity" }] }',
      '{ "d_model": 8, "ssm_cfg": { "dt_limit": [0.0, Infinity] } }',
      '{ "model_type": "mamba2" }',
    ];
    for (const text of texts) {
      expect(configFromJson(parsePythonJson(text), 'mamba2').dtLimit).toEqual([0, Infinity]);
    }
    const given = { model_type: 'mamba2', time_step_limit: [0.25, 2] };
    expect(configFromJson(given, 'mamba2').dtLimit).toEqual([0.25, 2]);
  });

  test.each([
    [null, 'config.json must be an object, got null'],
    [{}, 'model_type must be mamba, falcon_mamba or mamba2'],
    [{ model_type: 'jamba' }, 'model_type must be mamba or falcon_mamba, got "jamba"'],
    [{ model_type: 'mamba2' }, 'got "mamba2"; load it with Mamba2Stack'],
    [{ model_type: 'mamba', hidden_act: 'gelu' }, 'hidden_act must be silu or swish, got "gelu"'],
    [
      { model_type: 'mamba', hidden_size: '24' },
      'hidden_size must be a positive integer, got "24"',
    ],
    [{ model_type: 'mamba', layer_norm_epsilon: -1 }, 'must be a positive number, got -1'],
    [{ model_type: 'mamba', use_bias: 1 }, 'use_bias must be true or false, got 1'],
    [
      { d_model: 8, rms_norm: false },
      'rms_norm must be true, got false; LayerNorm is not supported',
    ],
    [{ d_model: 8, attn_layer_idx: [3] }, 'attn_layer_idx must be [], got [3]'],
    [{ d_model: 8, ssm_cfg: [] }, 'config.json: ssm_cfg must be an object, got []'],
    [
      { ssm_cfg: { layer: 'Mamba2' } },
      'ssm_cfg.layer must be Mamba1, got "Mamba2"; load it with M',
    ],
    [{ ssm_cfg: { layer: 'Mamba3' } }, 'got "Mamba3"; other models are not supported'],
    [{ ssm_cfg: { d_stat: 8 } }, 'ssm_cfg.d_stat must be absent, got 8'],
    [{ ssm_cfg: { ngroups: 2 } }, 'ssm_cfg.ngroups must be absent, got 2'],
  ])('%j is refused for Mamba-1', (json, message) => {
    expectThrow(() => configFromJson(json, 'mamba'), ModelContractError, message);
  });

  test.each([
    [{ model_type: 'falcon_mamba' }, 'got "falcon_mamba"; load it with MambaStack'],
    [{ model_type: 'mamba2', time_step_limit: [1, 0] }, 'time_step_limit must be two bounds'],
    [{ model_type: 'mamba2', time_step_limit: [0, { __float__: 'NaN' }] }, 'got [0, NaN]'],
    [{ model_type: 'mamba2', time_step_limit: [0, null] }, 'got [0, null]'],
    [
      { ssm_cfg: { layer: 'Mamba1' } },
      'ssm_cfg.layer must be Mamba2, got "Mamba1"; load it with M',
    ],
    [{ d_model: 8, ssm_cfg: { d_ssm: 8 } }, 'd_ssm must be the whole of expand * d_model, got 8'],
    [{ ssm_cfg: { dt_limit: 1 } }, 'ssm_cfg.dt_limit must be two bounds'],
    [{ d_model: 8, norm_epsilon: 1e-6 }, 'norm_epsilon must be 0.00001, got 0.000001'],
  ])('%j is refused for Mamba-2', (json, message) => {
    expectThrow(() => configFromJson(json, 'mamba2'), ModelContractError, message);
  });
});

describe('JSON that Python wrote', () => {
  test('may have numbers that JSON lacks, outside of strings', () => {
    const text = '{ "a": [-Infinity, NaN, 1], "b": "NaN, \\" Infinity", "NaN": Infinity }';
    expect(parsePythonJson(text)).toEqual({
      a: [{ __float__: '-Infinity' }, { __float__: 'NaN' }, 1],
      b: 'NaN, " Infinity',
      NaN: { __float__: 'Infinity' },
    });
  });

  test('is refused where it is broken otherwise', () => {
    for (const text of ['', '{', '{ "a": Infinit }', '{ "a": Infinity', '[NaN,]']) {
      expect(() => parsePythonJson(text), text).toThrow(SyntaxError);
    }
  });
});

describe('a configuration given in code', () => {
  const full: Required<MambaConfig> = {
    prefix: '',
    ignore: [],
    normEps: 1e-5,
    finalNorm: true,
    bias: false,
    convBias: true,
    dModel: 8,
    dInner: 16,
    dState: 4,
    dConv: 4,
    nLayers: 1,
    dIntermediate: 0,
    mixerNorm: false,
    mixerNormEps: 1e-6,
    dtRank: 1,
  };

  test('may have every field of its family, or none', () => {
    expect(() => checkConfig('load', full)).not.toThrow();
    expect(() => checkConfig('load', {})).not.toThrow();
    expect([...MAMBA_CONFIG_KEYS].sort()).toEqual(Object.keys(full).sort());
    const more = ['nGroups', 'dtLimit', 'normBeforeGate', 'gateNorm', 'nHeads', 'headDim'];
    const shared = Object.keys(full).filter((name) => !/^mixer|^dtRank/.test(name));
    expect([...MAMBA2_CONFIG_KEYS].sort()).toEqual([...shared, ...more].sort());
  });

  test.each([
    [{ dModel: 0 }, RangeError, 'load: dModel must be a positive integer, got 0'],
    [{ nGroups: 1.5 }, RangeError, 'load: nGroups must be a positive integer, got 1.5'],
    [{ nLayers: '2' }, TypeError, 'load: nLayers must be a positive integer, got "2"'],
    [{ dIntermediate: -1 }, RangeError, 'load: dIntermediate must be a positive integer, or 0'],
    [{ normEps: 0 }, RangeError, 'load: normEps must be a positive number, got 0'],
    [{ mixerNormEps: Number.NaN }, RangeError, 'load: mixerNormEps must be a positive number'],
    [{ finalNorm: 1 }, TypeError, 'load: finalNorm must be true or false, got 1'],
    [{ dtLimit: 1 }, TypeError, 'load: dtLimit must be two numbers, got 1'],
    [{ dtLimit: [0, '1'] }, TypeError, 'load: dtLimit must be two numbers, got [0, "1"]'],
    [{ dtLimit: [0] }, RangeError, 'load: dtLimit must be two bounds'],
    [{ dtLimit: [0.1, 0] }, RangeError, '0 <= low <= high with low finite, got [0.1, 0]'],
    [{ dtLimit: [Infinity, Infinity] }, RangeError, 'got [Infinity, Infinity]'],
    [null, TypeError, 'load: config must be an object, got null'],
  ])('%o is refused', (config, errorClass, message) => {
    expectThrow(() => checkConfig('load', config as unknown as MambaConfig), errorClass, message);
  });
});
