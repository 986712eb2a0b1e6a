// `npm start`: the product on a lasting data folder, where everything is again the next time.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { createClient } from '@stellwerk/client/client.ts';
import { expect, test } from 'vitest';
import { splitLink } from '../cli/src/commands/login.ts';
import { node, repository } from './installation.ts';
import { processesWith } from './processes.ts';

interface Started {
  url: string;
  data: string;
  signIn?: string;
}

test('npm start keeps its data in the home of its user, and ends cleanly when it is told to', async () => {
  const home = mkdtempSync(join(tmpdir(), 'stellwerk-start-'));
  using removed = new DisposableStack();
  removed.defer(() => rmSync(home, { recursive: true, force: true }));
  const env = { ...process.env, HOME: home, XDG_DATA_HOME: join(home, 'data'), XDG_CONFIG_HOME: join(home, 'config') };
  const during = async (work: (started: Started) => Promise<void>) => {
    const server = spawn(node[0], ['tools/launch.mjs', 'tools/start.ts', '--json', '--port', '0'], {
      cwd: repository,
      env,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const ended = once(server, 'exit');
    try {
      for await (const line of createInterface({ input: server.stdout })) {
        await work(JSON.parse(line));
        break;
      }
    } finally {
      server.kill('SIGINT');
    }
    expect((await ended)[0]).toBe(0);
    expect(processesWith(home)).toEqual([]);
  };

  let token = '';
  await during(async ({ url, data, signIn }) => {
    expect(data.startsWith(join(home, 'data'))).toBe(true);
    const { code } = splitLink(signIn!);
    ({ token } = await createClient({ url }).signIns.redeem({ code }));
    await createClient({ url, token }).workspaces.create({ name: 'bleibt' });
  });
  await during(async ({ url, signIn }) => {
    expect(signIn).toBeUndefined();
    const { items } = await createClient({ url, token }).workspaces.list({});
    expect(items.map(({ name }) => name)).toEqual(['bleibt']);
  });
});
