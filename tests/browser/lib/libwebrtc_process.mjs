// The `libwebrtc.mjs` endpoint as a child of a test.

import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { atEnd } from './cleanup.mjs';

const PROGRAM = fileURLToPath(new URL('../libwebrtc.mjs', import.meta.url));

/** Starts it with these arguments; `report()` waits for its end, which is no exit code but a kill of its own. */
export function libwebrtc(test, args) {
  const child = spawn(process.execPath, [PROGRAM, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (data) => (stdout += data));
  child.stderr.on('data', (data) => (stderr += data));
  const exited = new Promise((resolve) => child.on('close', resolve));
  atEnd(test, () => {
    child.kill('SIGKILL');
    return exited;
  });
  return {
    async report() {
      await exited;
      try {
        return JSON.parse(stdout);
      } catch {
        throw new Error(`libwebrtc ended without a report: ${stdout}${stderr}`);
      }
    },
  };
}
