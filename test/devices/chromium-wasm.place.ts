import * as ort from 'onnxruntime-web/wasm';
import * as files from './served-files.js';
import { deviceTests } from './suite.js';

// The page is not cross-origin isolated, so there are no threads to be had.
ort.env.wasm.numThreads = 1;

deviceTests({ name: 'wasm in Chromium', ort, device: 'wasm', ...files });
