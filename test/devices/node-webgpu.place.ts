import * as ort from 'onnxruntime-node';
import * as files from './repository-files.js';
import { deviceTests } from './suite.js';

deviceTests({ name: 'webgpu in Node', ort, device: 'webgpu', ...files });
