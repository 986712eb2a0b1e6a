// `npm run check`: everything a machine can tell of the sources, side by side, in seconds. Prints what failed, and only that.
import { spawn } from 'node:child_process';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const bin = (name: string) => join(root, 'node_modules', '.bin', name);
const tool = (name: string, ...args: string[]) => [process.execPath, join(root, 'tools', name), ...args];

const checks: Record<string, string[]> = {
  types: [bin('tsc'), '-p', root],
  format: [bin('biome'), 'ci', '--colors=off', '--diagnostic-level=warn', '--max-diagnostics=30', root],
  tidy: tool('tidy.ts'),
  openapi: tool('openapi.ts', '--check'),
  'errors page': tool('errors-page.ts', '--check'),
  'attacks page': tool('attacks-page.ts', '--check'),
  'python client': tool('python-client.ts', '--check'),
  'unused exports': [bin('knip'), '--no-progress', '--no-config-hints'],
};

interface Outcome {
  name: string;
  ok: boolean;
  output: string;
  seconds: number;
}

function check(name: string, [command, ...args]: string[]): Promise<Outcome> {
  const begun = performance.now();
  const child = spawn(command!, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
  const chunks: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => chunks.push(chunk));
  return new Promise((resolve) => {
    const end = (ok: boolean, extra = '') => {
      const seconds = (performance.now() - begun) / 1_000;
      resolve({ name, ok, output: Buffer.concat(chunks).toString('utf8') + extra, seconds });
    };
    child.on('error', (error) => end(false, error.message));
    child.on('close', (code) => end(code === 0));
  });
}

const wanted = Object.entries(checks).filter(([name]) => process.argv.length < 3 || process.argv.includes(name));
const outcomes = await Promise.all(wanted.map(([name, command]) => check(name, command)));
for (const { name, ok, output, seconds } of outcomes.sort((a, b) => Number(b.ok) - Number(a.ok))) {
  process.stdout.write(`${ok ? 'ok    ' : 'FAILED'} ${name} (${seconds.toFixed(1)} s)\n`);
  if (!ok) process.stdout.write(`${output.trimEnd().replace(/^/gm, '  ')}\n`);
}
process.exitCode = outcomes.every(({ ok }) => ok) ? 0 : 1;
