// Child processes of a test: the `halloo` command, its JSON lines, and an end that is always reached.

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { atEnd } from './cleanup.mjs';

export const ROOT = fileURLToPath(new URL('../../../', import.meta.url));

/** The binary under test: `HALLOO`, else the release build. */
export const HALLOO =
  process.env.HALLOO ?? path.join(process.env.CARGO_TARGET_DIR ?? path.join(ROOT, 'target'), 'release', 'halloo');

/** Why the tests that need the binary cannot run, or `false`. */
export const missingBinary = existsSync(HALLOO) ? false : `${HALLOO} is not built`;

/** A folder that goes away with the test. */
export async function scratch(test) {
  const folder = await mkdtemp(path.join(tmpdir(), 'halloo-browser-'));
  atEnd(test, () => rm(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 }));
  return folder;
}

/** Starts `halloo` with these arguments; it is ended with the test at the latest. */
export function halloo(test, args, { env = {} } = {}) {
  const child = spawn(HALLOO, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  const lines = [];
  const waiting = new Set();
  let stderr = '';
  child.stderr.on('data', (data) => {
    stderr = (stderr + data).slice(-8_000);
  });
  createInterface({ input: child.stdout }).on('line', (line) => {
    let value;
    try {
      value = JSON.parse(line);
    } catch {
      return;
    }
    lines.push(value);
    for (const each of waiting) each();
  });
  const exited = new Promise((resolve) => {
    child.on('error', (error) => resolve({ code: null, signal: null, error }));
    child.on('close', (code, signal) => resolve({ code, signal, error: null }));
  });
  const running = {
    child,
    lines,
    exited,
    stderr: () => stderr,
    /** The first JSON line for which `wanted` holds. */
    async line(what, wanted, timeoutMs = 20_000) {
      let wake;
      try {
        return await new Promise((resolve, reject) => {
          wake = () => {
            const found = lines.find(wanted);
            if (found !== undefined) resolve(found);
          };
          waiting.add(wake);
          wake();
          setTimeout(() => reject(new Error(`no ${what} within ${timeoutMs} ms; ${stderr}`)), timeoutMs).unref();
          exited.then(({ code }) => reject(new Error(`halloo ${args[0]} ended with ${code} before ${what}; ${stderr}`)));
        });
      } finally {
        waiting.delete(wake);
      }
    },
    async stop(signal = 'SIGTERM') {
      if (child.exitCode === null && child.signalCode === null) child.kill(signal);
      const late = setTimeout(() => child.kill('SIGKILL'), 5_000);
      const end = await exited;
      clearTimeout(late);
      return end;
    },
  };
  atEnd(test, () => running.stop());
  return running;
}

/** Starts `halloo serve`, on `port` or any free one. Resolves when it listens. */
export async function serve(test, { port = 0, folder }) {
  const server = halloo(test, ['serve', '--json', '--port', String(port)], {
    env: { HALLOO_DATA: path.join(folder, 'server') },
  });
  const { url } = await server.line('address', (line) => typeof line.url === 'string');
  const page = new URL(url);
  if (page.hostname === '0.0.0.0') page.hostname = '127.0.0.1';
  return { ...server, url: page.href, port: Number(page.port) };
}
