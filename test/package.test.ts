// `npm run pack` gives a package with which `npx stellwerk up` works in an empty folder; a Node that is too old is told so.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { execute, node, type Printed, repository } from './installation.ts';
import { nodeFolder } from './node-versions.ts';
import { processesWith } from './processes.ts';
import { until } from './waiting.ts';
import { writeFiles } from './work-folder.ts';

let folder: string;
let tarball: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'stellwerk-package-'));
  const env = process.env as Record<string, string>;
  const packed = await execute(node[0], [node[1], join(repository, 'tools', 'pack.ts')], { cwd: repository, env });
  expect(packed.code, packed.stderr).toBe(0);
  const made = packed.stdout.trim();
  tarball = join(folder, basename(made));
  copyFileSync(made, tarball);
});
afterAll(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));

/** Someone with this Node first on the path, in an empty folder, with a home and an npm cache of their own. */
class Visitor {
  readonly place: string;
  readonly environment: Record<string, string>;

  constructor(nodeBin: string, name: string) {
    this.place = join(folder, name);
    mkdirSync(this.place);
    const kept = Object.entries(process.env).filter(
      ([key]) => !/^(STELLWERK_|npm_|NODE_|VITEST)/i.test(key) || key === 'NODE_EXTRA_CA_CERTS',
    );
    this.environment = {
      ...(Object.fromEntries(kept) as Record<string, string>),
      PATH: `${nodeBin}:${pathWithoutOurs()}`,
      XDG_CONFIG_HOME: join(folder, `${name} config`),
      XDG_DATA_HOME: join(folder, `${name} share`),
      npm_config_cache: join(folder, `${name} npm`),
    };
  }

  arguments(...typed: string[]): string[] {
    return ['exec', '--yes', `--package=${tarball}`, '--', 'stellwerk', ...typed];
  }

  npx(...typed: string[]): Promise<Printed> {
    return execute('npm', this.arguments(...typed), { cwd: this.place, env: this.environment });
  }

  async typed(...typed: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.npx(...typed);
    expect(code, `${typed.join(' ')}: ${stderr}`).toBe(0);
    return stdout;
  }

  async up(): Promise<{ url: string; pid: number; signIn: string; ended: Promise<unknown> }> {
    const args = this.arguments('up', '--json', '--data', 'data', '--port', '0');
    const server = spawn('npm', args, { cwd: this.place, env: this.environment, stdio: ['ignore', 'pipe', 'inherit'] });
    const ended = once(server, 'exit');
    for await (const line of createInterface({ input: server.stdout })) return { ...JSON.parse(line), ended };
    throw new Error(`The server ended with ${(await ended)[0]}.`);
  }
}

/** Without the Node and the commands that a test runner puts before. */
const pathWithoutOurs = () =>
  (process.env.PATH ?? '')
    .split(':')
    .filter((part) => !part.startsWith(repository))
    .join(':');

test.each([24, 26])(
  'npx stellwerk up works in an empty folder on Node %i: a run, a model, an image, a service',
  async (major) => {
    const visitor = new Visitor(await nodeFolder(major, folder), `auf ${major}`);
    const server = await visitor.up();
    try {
      expect((await fetch(`${server.url}/openapi.json`)).status).toBe(200);
      expect(readdirSync(visitor.place)).toEqual(['data']);
      await visitor.typed('login', server.signIn);
      await visitor.typed('init', 'probe', '--create');
      writeFiles(visitor.place, {
        'work/main.py':
          "from stellwerk.core import Run\nRun.get_context().log('x', 1.5)\nopen('outputs/m.txt', 'w').write('model')\nprint('trained')\n",
        'work/score.py':
          "from stellwerk.core import Model\ndef init(): pass\ndef run(data): return open(Model.get_model_path('m')).read() + data\n",
      });
      for (const target of ['host', 'local']) {
        const printed = await visitor.typed(
          'run',
          'submit',
          'work',
          '--script',
          'main.py',
          '--target',
          target,
          '--environment.user-managed',
          '--experiment',
          'e',
          '--follow',
        );
        expect(printed, target).toBe('trained\n');
      }
      const { items } = JSON.parse(await visitor.typed('run', 'query', '--filter', 'metrics.x > 1', '--json'));
      expect(items).toHaveLength(2);
      await visitor.typed('model', 'register', '--run', items[0].id, '--path', 'outputs/m.txt', '--name', 'm');
      await visitor.typed('image', 'create', 'work', '--name', 'i', '--model', 'm');
      await visitor.typed('service', 'deploy', 'dienst', '--image', 'i');
      expect(JSON.parse(await visitor.typed('service', 'run', 'dienst', '--data', ' answers'))).toBe('model answers');
      await visitor.typed('service', 'delete', 'dienst');
    } finally {
      process.kill(server.pid, 'SIGTERM');
      await server.ended;
    }
    await until('no process is left', () => processesWith(visitor.place).length === 0);
  },
);

test('on Node 20 the command says which Node it needs, and fails', async () => {
  const visitor = new Visitor(await nodeFolder(20, folder), 'auf 20');
  const refused = await visitor.npx('up');
  expect(refused.code).not.toBe(0);
  expect(refused.stderr).toMatch(/Stellwerk needs Node 24 or newer, and this is Node 20\./);
  expect(refused.stderr).not.toContain('SyntaxError');
  expect(readdirSync(visitor.place)).toEqual([]);
});
