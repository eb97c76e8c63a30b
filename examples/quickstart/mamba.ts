import { readFileSync } from 'node:fs';
import * as ort from 'onnxruntime-node';
import { nd } from 'umwelt';
import { readSafetensors } from 'umwelt/formats';
import { Mamba2Stack } from 'umwelt/ssm';

// The sequence model inside a world model's checkpoint, as PyTorch saved it.
const folder = new URL('../mamba2/model/', import.meta.url);
const core = await Mamba2Stack.load(ort, folder, { prefix: 'backbone.', ignore: ['stem.'] });

const { tensors } = readSafetensors(readFileSync(new URL('golden.safetensors', folder)));
const { 'rows.x': x, 'rows.y': expected, reset } = tensors; // [8, 64, 64]; reset where episodes begin
const { y, state } = await core.scan(x as typeof y, undefined, { reset });
const error = Math.max(...y.data.map((v, i) => Math.abs(v - Number(expected.data[i]))));
const next = await core.step(nd(new Float32Array(8 * 64), [8, 64]), state); // one step on from there
console.log(y.shape.join(), error < 1e-4, next.y.shape.join()); // -> 8,64,64 true 8,64
