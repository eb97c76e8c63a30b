// The native WebGPU build: the default entry's older one runs no contrib operator on the GPU, and
// gives wrong numbers for a Concat of eight inputs.
import * as ort from 'onnxruntime-web/webgpu';
import * as files from './served-files.js';
import { deviceTests } from './suite.js';

ort.env.wasm.numThreads = 1;

deviceTests({ name: 'webgpu in Chromium', ort, device: 'webgpu', ...files });
