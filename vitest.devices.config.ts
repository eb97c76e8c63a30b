import { tmpdir } from 'node:os';
import { playwright } from '@vitest/browser-playwright';
import { defineConfig } from 'vitest/config';
import { alias } from './vitest.config.js';

// Debian's package. Its SwiftShader is a GPU made of CPU code, for the page and for Node alike.
const chromium = '/usr/bin/chromium';
const swiftshader = '/usr/lib/chromium/vk_swiftshader_icd.json';

/** What the projects share. */
const common = {
  setupFiles: ['test/setup.ts'],
  // The first use of a WebGPU operator compiles its shader.
  testTimeout: 30_000,
};

function inChromium(name: string, groupOrder: number, args: string[]): object {
  return {
    resolve: { alias },
    // It finds its .wasm file beside its own.
    optimizeDeps: { exclude: ['onnxruntime-web'] },
    test: {
      ...common,
      name,
      include: [`test/devices/${name}.place.ts`],
      sequence: { groupOrder },
      browser: {
        enabled: true,
        headless: true,
        screenshotFailures: false,
        provider: playwright({
          launchOptions: { executablePath: chromium, args },
        }),
        instances: [{ browser: 'chromium' }],
      },
    },
  };
}

export default defineConfig({
  test: {
    // One place after another.
    projects: [
      {
        resolve: { alias },
        test: {
          ...common,
          name: 'node-webgpu',
          include: ['test/devices/node-webgpu.place.ts'],
          sequence: { groupOrder: 1 },
          pool: 'forks',
          env: {
            // The Vulkan loader reads the first name, older ones the second.
            VK_DRIVER_FILES: process.env.VK_DRIVER_FILES ?? swiftshader,
            VK_ICD_FILENAMES: process.env.VK_ICD_FILENAMES ?? swiftshader,
            XDG_RUNTIME_DIR: process.env.XDG_RUNTIME_DIR ?? tmpdir(),
          },
        },
      },
      inChromium('chromium-wasm', 2, []),
      inChromium('chromium-webgpu', 3, [
        '--enable-unsafe-webgpu',
        '--use-webgpu-adapter=swiftshader',
      ]),
    ],
  },
});
