import { defineConfig } from 'vitest/config';
import manifest from './package.json' with { type: 'json' };

// The page is served from the root of `halloo serve` and embedded in its binary: few files, relative addresses.
export default defineConfig({
  base: './',
  define: { __VERSION__: JSON.stringify(manifest.version) },
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  build: {
    target: 'es2022',
    cssTarget: ['chrome123', 'firefox120', 'safari17.5'],
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    sourcemap: false,
  },
  // `npm run dev` beside a running `halloo serve`.
  server: { proxy: { '/ws': { target: 'ws://127.0.0.1:8080', ws: true } } },
  test: { environment: 'node', include: ['src/**/*.test.ts', 'scripts/**/*.test.mjs'] },
});
