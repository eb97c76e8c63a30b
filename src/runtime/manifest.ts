/**
 * What a model folder's `manifest.json` states: everything about a network that ONNX cannot say.
 *
 * The schema checks each field alone; what must hold between fields, and between the manifest and the
 * graph, is checked by whoever loads that kind of model.
 */

import * as v from 'valibot';
import { ModelContractError } from './errors.js';

/** The bounds of a continuous action, or the number of choices of a discrete one. */
export type ActionSpace =
  | {
      /** Continuous. */
      type: 'box';
      /** Smallest value of each action dimension, `[A]`. */
      low: readonly number[];
      /** Largest value of each action dimension, `[A]`. */
      high: readonly number[];
    }
  | {
      /** One of `n` choices. */
      type: 'discrete';
      /** Number of choices; actions are fed one-hot, so `actionSize` is `n`. */
      n: number;
    };

/** An affine normaliser: `clamp((x - mean) / std, -clip, clip)`, per dimension. */
export interface NormalizerManifest {
  /** Centre of each dimension. */
  mean: number[];
  /** Positive standard deviations. */
  std: number[];
  /** Bound on the normalised magnitude; none by default. */
  clip?: number;
}

/** Recorded values of a tensor, row-major. */
export interface GoldenTensor {
  /** Length of each axis. */
  shape: number[];
  /** The elements; those of a float32 tensor in any decimals that round to them. */
  data: number[];
}

/** Inputs fed by the exporter and the outputs its own framework computed. */
export interface Golden {
  /** By input name. */
  inputs: Record<string, GoldenTensor>;
  /** By output name; need not name all outputs. */
  outputs: Record<string, GoldenTensor>;
}

/** Fields of every manifest. */
export interface ManifestBase {
  /** Version of this format. */
  format: 1;
  /** What to call the model. */
  name?: string;
  /** What the model is of, in a sentence or two. */
  description?: string;
  /** Licence of the weights, as an SPDX identifier. */
  license?: string;
  /** Anything else worth keeping with the model; not read by the library. */
  meta?: Record<string, unknown>;
}

/** One graph without further meaning, for `Network.load`. */
export interface NetworkManifest extends ManifestBase {
  /** Tells the kinds apart. */
  kind: 'network';
  /** The ONNX file, relative to the folder. */
  file: string;
  /** Recorded on the graph by its exporter; checked at load. */
  golden?: Golden;
}

/** A policy network, for `NetworkPolicy.load`. */
export interface PolicyManifest extends ManifestBase {
  /** Tells the kinds apart. */
  kind: 'policy';
  /** The ONNX file, relative to the folder. */
  file: string;
  /** Name of the input, float32 `[B, obsSize]`. */
  input: string;
  /** Width of an observation. */
  obsSize: number;
  /** Width of an action. */
  actionSize: number;
  /** The actions the environment takes. */
  action: ActionSpace;
  /** What the outputs parametrise, with their tensor names. */
  head:
    | {
        /** A Gaussian squashed by tanh and rescaled to the bounds of `action`. */
        type: 'tanh-gaussian';
        /** Output `[B, actionSize]`: mean before tanh. */
        mean: string;
        /** Output `[B, actionSize]`: log standard deviation, raw. */
        logStd: string;
        /** Lower limit the library clamps `logStd` to. */
        logStdMin: number;
        /** Upper limit the library clamps `logStd` to. */
        logStdMax: number;
      }
    | {
        /** The action as it is. */
        type: 'deterministic';
        /** Output `[B, actionSize]`: the action itself, in the units of `action`. */
        action: string;
      };
  /** Normaliser of the input. */
  obsNormalizer?: NormalizerManifest;
  /** Recorded on the graph itself, after the normaliser; checked at load. */
  golden?: Golden;
}

/** How an ensemble's members lie in its graph or graphs. */
export type MemberForm = 'shared' | 'stacked' | 'separate';

/** The outputs of an ensemble: names, or a list of one name a member for `separate` in one file. */
export type EnsembleOutputs =
  | {
      /** Means. */
      mean: string | string[];
      /** Log-variances; absent exactly when the field `logVar` is null. */
      logVar?: string | string[];
    }
  | {
      /** Means and log-variances side by side in one output, `2D` wide. */
      joint: string | string[];
    };

/** Form of a log-variance output. */
export type LogVarianceManifest =
  | {
      /** As the last layer gives it: the library soft-clamps it. */
      form: 'raw';
      /** What the output is the logarithm of. Default `log-variance`. */
      scale?: 'log-variance' | 'log-std';
      /** Lower bound of each output, `[D]`, on that scale. */
      min: number[];
      /** Upper bound of each output, `[D]`, on that scale. */
      max: number[];
    }
  | {
      /** Clamped within the graph. */
      form: 'clamped';
      /** What the output is the logarithm of. Default `log-variance`. */
      scale?: 'log-variance' | 'log-std';
    };

/** How episodes end. */
export type TerminationManifest =
  | {
      /** A published rule, by name. */
      rule:
        | 'hopper'
        | 'walker2d'
        | 'walker2dBounded'
        | 'halfcheetah'
        | 'halfcheetahBounded'
        | 'ant'
        | 'humanoid'
        | 'cartpole'
        | 'invertedPendulum'
        | 'pen'
        | 'never';
    }
  | {
      /** An output of the graph with one number a row and member, of the same form as the others. */
      output: string | string[];
      /** What the number is. Default `logit`. */
      form?: 'logit' | 'probability' | 'continue-logit' | 'continue-probability';
      /** Whether an end is a probability that reaches `threshold` or drawn. Default `threshold`. */
      decide?: 'threshold' | 'bernoulli';
      /** Not for `bernoulli`. Default 0.5. */
      threshold?: number;
    };

/** A dynamics ensemble, for `EnsembleDynamics.load`. */
export interface EnsembleManifest extends ManifestBase {
  /** Tells the kinds apart. */
  kind: 'ensemble';
  /** The ONNX file, or one file a member; a safetensors file where `weights` is given. */
  file: string | string[];
  /**
   * Weights instead of a graph, which the library then writes: `members`, `inputs` and `outputs` are left
   * out.
   */
  weights?: {
    /** Names and shapes of the tensors: those of mbrl-lib's or OfflineRL-Kit's ensemble. */
    layout: 'mbrl-lib' | 'offlinerlkit';
    /** Activation between the layers. */
    activation: 'relu' | 'silu' | 'tanh' | 'elu' | 'leaky-relu';
  };
  /**
   * `shared`: one input `[B, in]`, outputs `[E, B, D]`; `stacked`: one input `[E, b, in]`, outputs
   * `[E, b, D]`; `separate`: an input `[b, in]` and outputs `[b, D]` for each member.
   */
  members?: MemberForm;
  /** Input name; `E` names for `separate` in one file. `in` is `obsSize + actionSize`. */
  inputs?: string | string[];
  /** Output names, of the same form as `inputs`. */
  outputs?: EnsembleOutputs;
  /** Which axis of the outputs is the members: 1 for `[B, E, D]`, only for `shared`. Default 0. */
  ensembleAxis?: 0 | 1;
  /** Width of an observation. */
  obsSize: number;
  /** Width of an action. */
  actionSize: number;
  /** The actions the environment takes. */
  action: ActionSpace;
  /** Number of members, `E`. */
  ensembleSize: number;
  /** Members to sample from, by number, or the `count` best of some validation scores. Default all. */
  elites?:
    | number[]
    | {
        /** How many. */
        count: number;
        /** Validation score of each member, `[E]`; lower is better, null for none. */
        scores: (number | null)[];
      };
  /** Which of the `D` outputs is the reward; null when the model predicts none. */
  rewardIndex: number | null;
  /** Form of the log-variance output; null for a deterministic model. */
  logVar: LogVarianceManifest | null;
  /** Whether observation outputs are changes, to be added to the observation. */
  predictsDelta: boolean;
  /** Observation dimensions predicted as they are although `predictsDelta`. */
  noDelta?: number[];
  /** Normaliser of the input, over `concat(obs, action)`. */
  inputNormalizer?: NormalizerManifest;
  /** What the outputs are standardised by: in units they are `mean + std * output`, over the `D` outputs. */
  outputNormalizer?: {
    /** `[D]`. */
    mean: number[];
    /** Positive, `[D]`. */
    std: number[];
  };
  /** How episodes end; never by default. */
  termination?: TerminationManifest;
  /** Least and greatest value of each observation dimension in the data, which next observations keep to. */
  support?: {
    /** `[obsSize]`. */
    low: number[];
    /** `[obsSize]`. */
    high: number[];
  };
  /** Names of the observation dimensions, for tables and pictures. */
  obsNames?: string[];
  /** Names of the action dimensions. */
  actionNames?: string[];
  /** Duration of one step, in seconds. */
  stepSeconds?: number;
  /**
   * Recorded on the graph itself, after the input normaliser; one for each file. For `weights`: input `x`
   * `[B, in]` and outputs `mean` and `logVar` `[E, B, D]` as the layers give them.
   */
  golden?: Golden | Golden[];
}

/** Any manifest, told apart by `kind`. */
export type Manifest = NetworkManifest | PolicyManifest | EnsembleManifest;

const real = v.pipe(v.number(), v.finite());
const reals = v.pipe(v.array(real), v.minLength(1));
const index = v.pipe(v.number(), v.integer(), v.minValue(0));
const count = v.pipe(v.number(), v.integer(), v.minValue(1));
const name = v.pipe(v.string(), v.nonEmpty());
const names = v.union([name, v.pipe(v.array(name), v.minLength(1))]);

const action = v.variant('type', [
  v.strictObject({ type: v.literal('box'), low: reals, high: reals }),
  v.strictObject({ type: v.literal('discrete'), n: count }),
]);

const affine = {
  mean: reals,
  std: v.pipe(v.array(v.pipe(real, v.gtValue(0))), v.minLength(1)),
};
const normalizer = v.strictObject({
  ...affine,
  clip: v.optional(v.pipe(real, v.gtValue(0))),
});

const goldenTensor = v.strictObject({ shape: v.array(index), data: v.array(real) });
const golden = v.strictObject({
  inputs: v.record(name, goldenTensor),
  outputs: v.record(name, goldenTensor),
});

const base = {
  $schema: v.optional(v.string()),
  format: v.literal(1),
  name: v.optional(v.string()),
  description: v.optional(v.string()),
  license: v.optional(v.string()),
  meta: v.optional(v.record(v.string(), v.unknown())),
};

const network = v.strictObject({
  ...base,
  kind: v.literal('network'),
  file: name,
  golden: v.optional(golden),
});

const policy = v.strictObject({
  ...base,
  kind: v.literal('policy'),
  file: name,
  input: name,
  obsSize: count,
  actionSize: count,
  action,
  head: v.variant('type', [
    v.strictObject({
      type: v.literal('tanh-gaussian'),
      mean: name,
      logStd: name,
      logStdMin: real,
      logStdMax: real,
    }),
    v.strictObject({ type: v.literal('deterministic'), action: name }),
  ]),
  obsNormalizer: v.optional(normalizer),
  golden: v.optional(golden),
});

const logVarScale = v.optional(v.picklist(['log-variance', 'log-std']));

const ensemble = v.strictObject({
  ...base,
  kind: v.literal('ensemble'),
  file: names,
  weights: v.optional(
    v.strictObject({
      layout: v.picklist(['mbrl-lib', 'offlinerlkit']),
      activation: v.picklist(['relu', 'silu', 'tanh', 'elu', 'leaky-relu']),
    }),
  ),
  members: v.optional(v.picklist(['shared', 'stacked', 'separate'])),
  inputs: v.optional(names),
  outputs: v.optional(
    v.union([
      v.strictObject({ mean: names, logVar: v.optional(names) }),
      v.strictObject({ joint: names }),
    ]),
  ),
  ensembleAxis: v.optional(v.picklist([0, 1])),
  obsSize: count,
  actionSize: count,
  action,
  ensembleSize: count,
  elites: v.optional(
    v.union([
      v.pipe(v.array(index), v.minLength(1)),
      v.strictObject({ count, scores: v.array(v.nullable(real)) }),
    ]),
  ),
  rewardIndex: v.nullable(index),
  logVar: v.nullable(
    v.variant('form', [
      v.strictObject({ form: v.literal('raw'), scale: logVarScale, min: reals, max: reals }),
      v.strictObject({ form: v.literal('clamped'), scale: logVarScale }),
    ]),
  ),
  predictsDelta: v.boolean(),
  noDelta: v.optional(v.array(index)),
  inputNormalizer: v.optional(normalizer),
  outputNormalizer: v.optional(v.strictObject(affine)),
  termination: v.optional(
    v.union([
      v.strictObject({
        rule: v.picklist([
          'hopper',
          'walker2d',
          'walker2dBounded',
          'halfcheetah',
          'halfcheetahBounded',
          'ant',
          'humanoid',
          'cartpole',
          'invertedPendulum',
          'pen',
          'never',
        ]),
      }),
      v.strictObject({
        output: names,
        form: v.optional(
          v.picklist(['logit', 'probability', 'continue-logit', 'continue-probability']),
        ),
        decide: v.optional(v.picklist(['threshold', 'bernoulli'])),
        threshold: v.optional(v.pipe(real, v.gtValue(0), v.maxValue(1))),
      }),
    ]),
  ),
  support: v.optional(v.strictObject({ low: reals, high: reals })),
  obsNames: v.optional(v.array(v.string())),
  actionNames: v.optional(v.array(v.string())),
  stepSeconds: v.optional(v.pipe(real, v.gtValue(0))),
  golden: v.optional(v.union([golden, v.array(golden)])),
});

/** The schema of every manifest; `umwelt/manifest.schema.json` is made from it. */
export const manifestSchema: v.GenericSchema<unknown, Manifest> = v.variant('kind', [
  network,
  policy,
  ensemble,
]);

/**
 * Validates a manifest.
 *
 * @param value - the parsed JSON, or an object given in code
 * @throws {@link ModelContractError} naming each field that is missing, unknown or of the wrong kind
 */
export function parseManifest(value: unknown): Manifest {
  const result = v.safeParse(manifestSchema, value);
  if (result.success) return result.output;
  const problems = result.issues.slice(0, 8).map((issue) => problemOf(issue));
  throw new ModelContractError(`manifest: ${problems.join('; ')}`);
}

/** One issue in our words: the field, what must hold and what came. */
function problemOf(issue: v.BaseIssue<unknown>, parent = ''): string {
  const path = [parent, v.getDotPath(issue) ?? ''].filter((part) => part !== '').join('.');
  // Of a choice between schemas, the deepest issue is about the one that was meant, unless that schema
  // lacks a field: what it does not know comes last, right behind what it misses.
  const issues = issue.issues ?? [];
  const isMissing = (at: number) => issues[at]?.received === 'undefined';
  const [inner] = issues
    .map((candidate, at) => ({
      candidate,
      other: isMissing(at) || (candidate.expected === 'never' && isMissing(at - 1)),
    }))
    .sort(
      (a, b) => depthOf(b.candidate) - depthOf(a.candidate) || Number(a.other) - Number(b.other),
    )
    .map(({ candidate }) => candidate);
  if (issue.type === 'union' && inner !== undefined && depthOf(inner) > 0) {
    return problemOf(inner, path);
  }
  const field = path === '' ? '' : `${path}: `;
  if (issue.type === 'strict_object' && issue.expected === 'never') {
    return `${field}is no field of this format; put notes of your own under meta`;
  }
  if (issue.received === 'undefined') return `${field}must be given, got nothing`;
  if (issue.type === 'min_length' || issue.type === 'non_empty') {
    return `${field}must not be empty`;
  }
  return `${field}must be ${issue.expected ?? 'valid'}, got ${issue.received}`;
}

function depthOf(issue: v.BaseIssue<unknown>): number {
  return issue.path?.length ?? 0;
}

/**
 * Validates a manifest of one kind.
 *
 * @throws {@link ModelContractError} as {@link parseManifest} does, and for another kind
 */
export function parseManifestOf<Kind extends Manifest['kind']>(
  kind: Kind,
  value: unknown,
): Extract<Manifest, { kind: Kind }> {
  if (value === undefined) {
    throw new ModelContractError(
      `manifest: a model of kind '${kind}' needs one; put manifest.json in its folder or pass it in code`,
    );
  }
  // Before the other fields, which would be judged by another kind's schema.
  const given = (value as { kind?: unknown } | null)?.kind;
  if (typeof given === 'string' && given !== kind) {
    throw new ModelContractError(`manifest: kind must be '${kind}' here, got '${given}'`);
  }
  return parseManifest(value) as Extract<Manifest, { kind: Kind }>;
}
