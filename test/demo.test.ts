// The demo from a clean clone, as whoever runs the tests and, where that is root, as an ordinary user made for it, too.
// How long the second time takes is printed, not asserted: a busy machine is no fault.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createClient } from '@stellwerk/client/client.ts';
import { expect, test } from 'vitest';
import { execute, node, type Printed, repository } from './installation.ts';
import { processesWith } from './processes.ts';

const isRoot = process.getuid?.() === 0;
const slowMs = 900_000;

/** As a fresh login has it: a home of its own, the machine's programs and certificates, nothing of whoever runs the tests. */
function environmentOf(home: string): Record<string, string> {
  const kept = Object.entries(process.env).filter(([name]) =>
    /^(LANG|LC_|TZ|SSL_CERT|NODE_EXTRA_CA_CERTS|PIP_|CURL_CA|REQUESTS_CA|GIT_SSL|https?_proxy|no_proxy|HTTPS?_PROXY|NO_PROXY)/.test(
      name,
    ),
  );
  return { ...(Object.fromEntries(kept) as Record<string, string>), HOME: home, PATH: '/usr/local/bin:/usr/bin:/bin' };
}

async function must(command: string, ...args: string[]): Promise<void> {
  const { code, stderr } = await execute(command, args, { cwd: tmpdir(), env: process.env as Record<string, string> });
  expect(code, `${command} ${args.join(' ')}: ${stderr}`).toBe(0);
}

async function walk(place: string, as: readonly string[]): Promise<void> {
  const home = join(place, 'home');
  const clone = join(place, 'clone');
  const env = environmentOf(home);
  const demo = async (): Promise<Printed> =>
    execute(as[0] ?? 'npm', [...as.slice(1), ...(as.length > 0 ? ['npm'] : []), 'run', 'demo', '--', '--exit'], {
      cwd: clone,
      env,
    });
  for (const time of ['first', 'second']) {
    const begun = performance.now();
    const { code, stdout, stderr } = await demo();
    expect(code, `${stdout}\n${stderr}`).toBe(0);
    expect([...stdout.matchAll(/^(\d)\. /gm)].map(([, step]) => Number(step))).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    expect(stdout).toContain('no process is left');
    expect(processesWith(home)).toEqual([]);
    console.log(`The ${time} time took ${((performance.now() - begun) / 1_000).toFixed(1)} s.`);
  }
}

async function cleanClone(): Promise<string> {
  const place = mkdtempSync(join(tmpdir(), 'stellwerk demo '));
  chmodSync(place, 0o755);
  mkdirSync(join(place, 'home'));
  await must('git', 'clone', '--quiet', repository, join(place, 'clone'));
  return place;
}

/** The demo of this checkout, told to end when it has printed what matches. Gives what was printed, and what came of it. */
async function endedAt(pattern: RegExp, act: (printed: RegExpExecArray) => Promise<void> = async () => {}) {
  const home = mkdtempSync(join(tmpdir(), 'stellwerk demo '));
  const env = { ...process.env, XDG_DATA_HOME: home, TMPDIR: home };
  const demo = spawn(node[0], ['tools/launch.mjs', 'tools/demo.ts'], { cwd: repository, env });
  const ended = once(demo, 'close');
  let stdout = '';
  let isTold = false;
  for await (const chunk of demo.stdout) {
    stdout += chunk;
    const found = isTold ? null : pattern.exec(stdout);
    if (!found) continue;
    isTold = true;
    await act(found);
    demo.kill('SIGINT');
  }
  const [code] = await ended;
  const entries = readdirSync(home, { recursive: true, withFileTypes: true });
  const left = { processes: processesWith(home), files: entries.filter((one) => one.isFile()) };
  rmSync(home, { recursive: true, force: true, maxRetries: 5 });
  return { code, stdout, left };
}

test('it ends by saying where the server is and how to sign in, and Ctrl+C removes everything', {
  timeout: slowMs,
}, async () => {
  const { code, stdout, left } = await endedAt(
    /The server is at (\S+)\..*\n +(\S+#(\S+))\n/,
    async ([, url, , link]) => {
      const client = createClient({ url: url! });
      expect((await client.signIns.redeem({ code: link! })).user).toMatchObject({ administrator: true });
    },
  );
  expect(code, stdout).toBe(0);
  expect(left).toEqual({ processes: [], files: [] });
});

test('Ctrl+C in the middle of the training leaves no process and no file either, and is no success', {
  timeout: slowMs,
}, async () => {
  const { code, stdout, left } = await endedAt(/alpha \S+: mse/);
  expect(code, stdout).toBe(1);
  expect(stdout).toContain('interrupted');
  expect(left).toEqual({ processes: [], files: [] });
});

test('the demo walks all its steps from a clean clone with an empty home, twice, and leaves no process', {
  timeout: slowMs,
}, async () => {
  const place = await cleanClone();
  try {
    await walk(place, []);
  } finally {
    rmSync(place, { recursive: true, force: true, maxRetries: 5 });
  }
});

test.runIf(isRoot)('an ordinary user walks it as well', { timeout: slowMs }, async () => {
  const user = `stellwerk-demo-${process.pid}`;
  const place = await cleanClone();
  await must('useradd', '--no-create-home', '--home-dir', join(place, 'home'), '--shell', '/bin/sh', user);
  try {
    await must('chown', '-R', `${user}:`, place);
    await walk(place, ['setpriv', `--reuid=${user}`, `--regid=${user}`, '--init-groups']);
  } finally {
    await must('userdel', user);
    rmSync(place, { recursive: true, force: true, maxRetries: 5 });
  }
});
