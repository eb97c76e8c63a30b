import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import * as ort from 'onnxruntime-node';
import { Network, nd, packed } from 'umwelt';
import { writeModel } from 'umwelt/onnx';
import {
  ModelContractError,
  ModelLoadError,
  type ModelSource,
  type NetworkOptions,
} from 'umwelt/runtime';
import { afterAll, describe, expect, test } from 'vitest';
import { HOPPER_POLICY } from '../support/models.js';
import { externalDataModel, identityModel } from '../support/onnx-builder.js';
import { expectRefusal } from './refusal.js';
import { serve, under } from './serve.js';

type Files = Record<string, Uint8Array>;

const scratch = mkdtempSync(join(tmpdir(), 'umwelt-load-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

let folders = 0;

/** A fresh folder with these files; names may contain slashes. */
function folderOf(files: Files): string {
  const folder = join(scratch, `model${folders++}`);
  mkdirSync(folder);
  for (const [name, bytes] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), bytes);
  }
  return folder;
}

function json(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

/** Calls `use` with one source of each kind, all holding the same model and files. */
async function inEverySource(
  manifest: { file: string },
  files: Files,
  use: (source: ModelSource, options: NetworkOptions, kind: string) => Promise<void>,
): Promise<void> {
  const folder = folderOf({ ...files, 'manifest.json': json(manifest) });
  await use(folder, {}, 'path');
  await use(pathToFileURL(folder), {}, 'file URL');
  await using server = await serve(under('/model', { ...files, 'manifest.json': json(manifest) }));
  await use(`${server.url}/model`, {}, 'http URL');
  const { [manifest.file]: bytes, ...others } = files;
  await use(bytes, { files: others }, 'bytes');
  await use({ manifest, files }, {}, 'files');
}

const network = (file: string) => ({ format: 1, kind: 'network', file });
const identity = { manifest: network('model.onnx'), files: { 'model.onnx': identityModel() } };

describe('a folder', () => {
  const folder = folderOf({ ...identity.files, 'manifest.json': json(identity.manifest) });

  test('loads by path, with or without a slash at its end, and by file URL', async () => {
    const url = pathToFileURL(folder);
    for (const source of [folder, `${folder}/`, url, `${url.href}/`, url.href]) {
      await using loaded = await Network.load(ort, source);
      expect(loaded.inputs[0].name).toBe('x');
    }
  });

  test('loads by http, with or without a slash at its end, as text or URL', async () => {
    await using server = await serve(
      under('/a b', { ...identity.files, 'manifest.json': json(identity.manifest) }),
    );
    for (const source of [
      `${server.url}/a b`,
      `${server.url}/a%20b/`,
      new URL(`${server.url}/a b`),
    ]) {
      await using loaded = await Network.load(ort, source);
      expect(loaded.inputs[0].name).toBe('x');
    }
  });

  test('keeps its path when the URL has a query or a fragment', async () => {
    await using server = await serve(
      under('/model', { ...identity.files, 'manifest.json': json(identity.manifest) }),
    );
    for (const ending of ['?version=2', '#top', '/?version=2']) {
      await using loaded = await Network.load(ort, `${server.url}/model${ending}`);
      expect(loaded.inputs[0].name).toBe('x');
    }
  });

  test('without a manifest is refused, naming it', async () => {
    const bare = folderOf(identity.files);
    await expectRefusal(Network.load(ort, bare), ModelLoadError, 'manifest.json', bare);
    await using server = await serve(under('/model', identity.files));
    const { url } = server;
    await expectRefusal(
      Network.load(ort, `${url}/model`),
      ModelLoadError,
      `${url}/model/manifest.json`,
      'HTTP 404',
    );
    const { files } = identity;
    await expectRefusal(
      Network.load(ort, { manifest: undefined, files }),
      ModelContractError,
      'manifest',
    );
  });

  test('that does not exist is refused', async () => {
    const nowhere = join(scratch, 'nowhere');
    await expectRefusal(Network.load(ort, nowhere), ModelLoadError, nowhere, 'ENOENT');
    await expectRefusal(Network.load(ort, pathToFileURL(nowhere)), ModelLoadError, 'ENOENT');
  });

  test('may be given its manifest in code, which wins over its own', async () => {
    const stale = folderOf({ ...identity.files, 'manifest.json': json(network('gone.onnx')) });
    await expectRefusal(Network.load(ort, stale), ModelLoadError, 'gone.onnx');
    await using loaded = await Network.load(ort, stale, { manifest: identity.manifest });
    expect(loaded.device).toBe('cpu');
  });

  test('with a manifest that is not JSON is refused', async () => {
    const files = { ...identity.files, 'manifest.json': new TextEncoder().encode('{ format: 1') };
    const broken = folderOf(files);
    await expectRefusal(
      Network.load(ort, broken),
      ModelLoadError,
      `manifest.json in ${broken} is not JSON`,
    );
    await using server = await serve(under('/model', files));
    await expectRefusal(Network.load(ort, `${server.url}/model`), ModelLoadError, 'is not JSON');
  });

  test('whose manifest names a missing file is refused in every kind of source', async () => {
    const manifest = network('absent.onnx');
    const broken = folderOf({ 'manifest.json': json(manifest) });
    await expectRefusal(Network.load(ort, broken), ModelLoadError, 'absent.onnx', broken);
    await expectRefusal(
      Network.load(ort, pathToFileURL(broken)),
      ModelLoadError,
      'absent.onnx',
      broken,
    );
    await using server = await serve({ '/manifest.json': json(manifest) });
    await expectRefusal(
      Network.load(ort, server.url),
      ModelLoadError,
      `${server.url}/absent.onnx`,
      'HTTP 404',
    );
    await expectRefusal(
      Network.load(ort, { manifest, files: identity.files }),
      ModelLoadError,
      "'absent.onnx', got model.onnx",
      'files',
    );
  });

  test('of several graphs is no single network', async () => {
    const manifest = {
      format: 1,
      kind: 'ensemble',
      file: ['a.onnx', 'b.onnx'],
      members: 'separate',
      inputs: 'x',
      outputs: { mean: 'y' },
      obsSize: 1,
      actionSize: 1,
      action: { type: 'box', low: [-1], high: [1] },
      ensembleSize: 2,
      elites: [0],
      rewardIndex: null,
      logVar: null,
      predictsDelta: true,
    };
    await expectRefusal(
      Network.load(ort, { manifest, files: {} }),
      ModelContractError,
      'a.onnx,b.onnx',
      'EnsembleDynamics.load',
    );
  });
});

describe('one .onnx file', () => {
  test('needs no manifest, by path, file URL, http URL or bytes', async () => {
    const file = join(folderOf(identity.files), 'model.onnx');
    await using server = await serve(under('/some dir', identity.files));
    const sources = [
      file,
      pathToFileURL(file),
      pathToFileURL(file).href,
      `${server.url}/some%20dir/model.onnx`,
      identity.files['model.onnx'],
    ];
    for (const source of sources) {
      await using loaded = await Network.load(ort, source);
      expect(loaded.outputs[0].name).toBe('y');
    }
  });

  test('may have a space or a percent sign in its name', async () => {
    const files = { 'a b%20c.onnx': identity.files['model.onnx'] };
    const file = join(folderOf(files), 'a b%20c.onnx');
    await using byPath = await Network.load(ort, file);
    await using byUrl = await Network.load(ort, pathToFileURL(file));
    expect([byPath.device, byUrl.device]).toEqual(['cpu', 'cpu']);
    await using server = await serve(under('', files));
    await using byHttp = await Network.load(ort, `${server.url}/a%20b%2520c.onnx`);
    expect(byHttp.device).toBe('cpu');
  });

  test('may be given a manifest in code, whose golden values then count', async () => {
    const golden = {
      inputs: { x: { shape: [1, 3], data: [1, 2, 3] } },
      outputs: { y: { shape: [1, 3], data: [1, 2, 4] } },
    };
    const manifest = { ...network('any.onnx'), golden };
    await expectRefusal(
      Network.load(ort, identity.files['model.onnx'], { manifest }),
      ModelContractError,
      "'y' element 2",
    );
  });
});

describe('the web', () => {
  test('an HTTP error is a ModelLoadError with its status', async () => {
    await using server = await serve({
      '/manifest.json': (response) => response.writeHead(503).end('busy'),
    });
    await expectRefusal(Network.load(ort, server.url), ModelLoadError, 'HTTP 503', server.url);
  });

  test('a server that cannot be reached is a ModelLoadError', async () => {
    let url: string;
    {
      await using server = await serve({});
      url = server.url;
    }
    await expectRefusal(
      Network.load(ort, url),
      ModelLoadError,
      `cannot fetch ${url}/manifest.json`,
    );
  });

  test('a body that breaks off is a ModelLoadError naming the file', async () => {
    await using server = await serve({
      '/model.onnx': (response) => {
        response.writeHead(200, { 'content-length': 1000 });
        response.write('abc', () => setTimeout(() => response.destroy(), 20));
      },
    });
    await expectRefusal(
      Network.load(ort, `${server.url}/model.onnx`),
      ModelLoadError,
      `${server.url}/model.onnx`,
    );
  });

  test('names that no URL can hold are ModelLoadErrors', async () => {
    await using server = await serve({});
    const { url } = server;
    await expectRefusal(Network.load(ort, `${url}/%zz.onnx`), ModelLoadError, '%zz.onnx');
    const manifest = network('\ud800.onnx');
    await expectRefusal(Network.load(ort, url, { manifest }), ModelLoadError, '.onnx');
  });
});

describe('a source of no known kind', () => {
  test.each([
    ['null', 'null', null],
    ['undefined', 'undefined', undefined],
    ['a number', 'number', 42],
    ['an ArrayBuffer', 'object', new ArrayBuffer(8)],
    ['an array', 'object', [1, 2, 3]],
    ['a manifest without files', 'object', { manifest: {} }],
  ])('such as %s is a TypeError', async (_, got, source) => {
    const load = Network.load(ort, source as never);
    await expectRefusal(load, TypeError, 'source must be', `got ${got}`);
  });
});

describe('external data', () => {
  const policy = {
    manifest: JSON.parse(readFileSync(join(HOPPER_POLICY, 'manifest.json'), 'utf8')),
    files: {
      'policy.onnx': new Uint8Array(readFileSync(join(HOPPER_POLICY, 'policy.onnx'))),
      'policy.onnx.data': new Uint8Array(readFileSync(join(HOPPER_POLICY, 'policy.onnx.data'))),
    },
  };

  test('is loaded with the trained policy from every kind of source, to the same bits', async () => {
    const obs = nd(
      Float32Array.from({ length: 22 }, (_, i) => Math.sin(i)),
      [2, 11],
    );
    await using committed = await Network.load(ort, HOPPER_POLICY);
    const expected = packed((await committed.run({ obs })).mean);
    expect(expected.some((x) => x !== 0)).toBe(true);
    const kinds: string[] = [];
    await inEverySource(policy.manifest, policy.files, async (source, options, kind) => {
      await using loaded = await Network.load(ort, source, options);
      expect(packed((await loaded.run({ obs })).mean)).toBeBitEqual(expected as Float32Array);
      kinds.push(kind);
    });
    expect(kinds).toEqual(['path', 'file URL', 'http URL', 'bytes', 'files']);
  });

  test('is loaded beside a single .onnx file', async () => {
    await using loaded = await Network.load(ort, join(HOPPER_POLICY, 'policy.onnx'));
    expect(loaded.inputs.map(({ name }) => name)).toEqual(['obs']);
  });

  test('that is missing is a ModelLoadError naming the file, in every kind of source', async () => {
    const { 'policy.onnx.data': _, ...files } = policy.files;
    await inEverySource(policy.manifest, files, async (source, options) => {
      const load = Network.load(ort, source, options);
      await expectRefusal(load, ModelLoadError, 'policy.onnx.data');
    });
  });

  test('that is truncated is a ModelLoadError naming file, tensor and bytes', async () => {
    const whole = policy.files['policy.onnx.data'];
    for (const size of [0, 1, whole.length - 1]) {
      const files = { ...policy.files, 'policy.onnx.data': whole.slice(0, size) };
      await inEverySource(policy.manifest, files, async (source, options) => {
        const load = Network.load(ort, source, options);
        await expectRefusal(load, ModelLoadError, "'policy.onnx.data'", 'tensor', `got ${size}`);
      });
    }
  });

  test('may be shared by tensors at different offsets, and lie in a folder of its own', async () => {
    const offset = (name: string, at: number) => ({
      name,
      dtype: 'float32' as const,
      shape: [2],
      external: { location: 'weights/all.bin', offset: at, length: 8 },
    });
    const model = writeModel({
      graph: {
        inputs: [{ name: 'x', shape: ['B', 2] }],
        outputs: [{ name: 'y', shape: ['B', 2] }],
        initializers: [offset('first', 8), offset('second', 0)],
        nodes: [
          { op: 'Add', inputs: ['x', 'first'], outputs: ['h'] },
          { op: 'Mul', inputs: ['h', 'second'], outputs: ['y'] },
        ],
      },
    });
    const data = new Uint8Array(Float32Array.of(10, 100, 1, 2).buffer);
    // Locations are relative to the ONNX file, which itself lies in a folder here.
    const manifest = network('graphs/model.onnx');
    const files = { 'graphs/model.onnx': model, 'graphs/weights/all.bin': data };
    await inEverySource(manifest, files, async (source, options, kind) => {
      const own = kind === 'bytes' ? { files: { 'weights/all.bin': data } } : options;
      await using loaded = await Network.load(ort, source, own);
      const { y } = await loaded.run({ x: nd([[0, 1]]) });
      expect([...packed(y)]).toEqual([10, 300]);
    });
  });

  test('without a stated length is read to the end of its file', async () => {
    const model = writeModel({
      graph: {
        inputs: [{ name: 'x', shape: ['B', 2] }],
        outputs: [{ name: 'y', shape: ['B', 2] }],
        initializers: [
          { name: 'w', dtype: 'float32', shape: [2], external: { location: 'w.bin' } },
        ],
        nodes: [{ op: 'Add', inputs: ['x', 'w'], outputs: ['y'] }],
      },
    });
    const data = new Uint8Array(Float32Array.of(5, 7).buffer);
    await using loaded = await Network.load(ort, model, { files: { 'w.bin': data } });
    expect([...packed((await loaded.run({ x: nd([[0, 0]]) })).y)]).toEqual([5, 7]);
    const short = Network.load(ort, model, { files: { 'w.bin': data.slice(0, 4) } });
    await expectRefusal(short, ModelLoadError, 'w');
  });

  // A file that really lies outside, so that only the refusal keeps it from being read.
  const secret = new Uint8Array(Float32Array.of(1, 2, 3).buffer);
  writeFileSync(join(scratch, 'secret.data'), secret);

  test.each([
    ['an absolute path', join(scratch, 'secret.data')],
    ['a parent folder', '../secret.data'],
    ['a parent folder further down', 'inner/../../secret.data'],
    ['a parent folder with backslashes', '..\\secret.data'],
    ['a drive', 'C:secret.data'],
    ['a file URL', pathToFileURL(join(scratch, 'secret.data')).href],
    ['a web URL', 'http://127.0.0.1:9/secret.data'],
    ['a URL without protocol', '//127.0.0.1:9/secret.data'],
    ['a name with NUL', 'secret.data\0.bin'],
    ['an empty part', 'inner//secret.data'],
    ['the folder itself', '.'],
    ['its parent', '..'],
  ])('that leads out of the folder by %s is refused in every source', async (_, location) => {
    const { model } = externalDataModel([1, 2, 3], location);
    await inEverySource(network('model.onnx'), { 'model.onnx': model }, async (source, options) => {
      // Even where the caller's own files have that name.
      const files = { ...options.files, [location]: secret };
      await expectRefusal(
        Network.load(ort, source, { files }),
        ModelLoadError,
        'relative path inside the folder',
        location,
      );
    });
  });

  test('that leads out of a served folder is never asked for', async () => {
    for (const location of ['../secret.data', '/secret.data', '..\\secret.data']) {
      const { model } = externalDataModel([1, 2, 3], location);
      await using server = await serve({ '/in/model.onnx': model, '/secret.data': secret });
      await expectRefusal(
        Network.load(ort, `${server.url}/in/model.onnx`),
        ModelLoadError,
        'relative path',
      );
      expect(server.requests).toEqual(['/in/model.onnx']);
    }
  });

  test('behind a percent sign is a file name, not a way up', async () => {
    const { model } = externalDataModel([1, 2, 3], '%2e%2e%2fsecret.data');
    await using server = await serve({ '/in/model.onnx': model, '/secret.data': secret });
    await expectRefusal(
      Network.load(ort, `${server.url}/in/model.onnx`),
      ModelLoadError,
      'HTTP 404',
    );
    expect(server.requests[1]).toBe('/in/%252e%252e%252fsecret.data');
  });

  test('may be a link within the folder, but none that leads out of it', async () => {
    const { model, data } = externalDataModel([1, 2, 3], 'linked.data');
    const inside = folderOf({ 'model.onnx': model, 'real.data': data });
    symlinkSync('real.data', join(inside, 'linked.data'));
    await using loaded = await Network.load(ort, join(inside, 'model.onnx'));
    expect([...packed((await loaded.run({ x: nd([[0, 0, 0]]) })).y)]).toEqual([1, 2, 3]);

    const outside = folderOf({ 'model.onnx': model });
    symlinkSync(join(scratch, 'secret.data'), join(outside, 'linked.data'));
    await expectRefusal(
      Network.load(ort, join(outside, 'model.onnx')),
      ModelLoadError,
      'linked.data',
      'leads out of the folder',
    );
    const throughFolder = folderOf({
      'model.onnx': externalDataModel([1], 'sub/secret.data').model,
    });
    symlinkSync(scratch, join(throughFolder, 'sub'));
    await expectRefusal(
      Network.load(ort, join(throughFolder, 'model.onnx')),
      ModelLoadError,
      'leads out of the folder',
    );
  });

  test('is found when the folder itself is reached through a link', async () => {
    const link = join(scratch, 'link');
    symlinkSync(HOPPER_POLICY, link);
    await using loaded = await Network.load(ort, link);
    expect(loaded.device).toBe('cpu');
  });
});

describe('a manifest', () => {
  test.each(['../model.onnx', '/model.onnx', 'a\\model.onnx', 'C:model.onnx', 'a\0.onnx'])(
    'may not name the file %j, outside its folder',
    async (file) => {
      const manifest = network(file);
      const folder = folderOf({ 'manifest.json': json(manifest) });
      await using server = await serve({ '/in/manifest.json': json(manifest) });
      const files = { [file]: identity.files['model.onnx'] };
      for (const source of [folder, `${server.url}/in`, { manifest, files }]) {
        await expectRefusal(
          Network.load(ort, source),
          ModelLoadError,
          'relative path inside the folder',
          file,
        );
      }
    },
  );
});
