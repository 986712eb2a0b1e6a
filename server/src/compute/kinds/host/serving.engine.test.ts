// A model served as the product does it: the scorer in a box around an image's root, several replicas, the gateway in front.
import { createHash } from 'node:crypto';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { killProcess, processesMarked } from '../../../exec/processes.ts';
import { output } from '../../../exec/programs.ts';
import { isolationHere } from '../../../exec/sandbox.ts';
import { makeTestRoot } from '../../../exec/test-root.ts';
import { Gateway, type GatewayNeeds, type ServiceRoute } from '../../../gateway/gateways.ts';
import { type HostReplica, HostServices, markOf } from './services.ts';

const repository = join(import.meta.dirname, '../../../../..');
const folder = mkdtempSync(join(tmpdir(), 'stellwerk-serving-'));
const needs: GatewayNeeds = {
  folder: join(folder, 'gateway'),
  settings: { host: '127.0.0.1', port: 0, accessLog: false, version: '1' },
  program: { command: process.execPath, args: [join(repository, 'server/src/gateway/main.ts')] },
};
let gateway = new Gateway(needs);
let services = new HostServices({ folder: join(folder, 'replicas'), isolation: isolationHere });
const started: HostReplica[] = [];
let rootPath = '';
let url = '';

/** Written for Azure ML v1. */
const score = `
import json, os, time
from azureml.core.model import Model

def init():
    global model
    model = json.load(open(Model.get_model_path('ridge')))
    time.sleep(0.3)

def run(raw_data):
    data = json.loads(raw_data)['data']
    return {'predictions': [sum(a * b for a, b in zip(model['weights'], row)) for row in data], 'of': model['name']}
`;

beforeAll(async () => {
  rootPath = await makeTestRoot();
  const write = (path: string, text: string) => {
    mkdirSync(join(rootPath, dirname(path)), { recursive: true });
    writeFileSync(join(rootPath, path), text);
  };
  await output({ command: 'python3', args: ['-m', 'venv', join(folder, 'tools')] });
  const packages = join(rootPath, 'opt/stellwerk/scorer/packages');
  const lock = join(repository, 'python/scorer/requirements.lock');
  const install = ['install', '--quiet', '--target', packages, '--require-hashes', '-r', lock];
  await output({ command: join(folder, 'tools/bin/pip'), args: install });
  cpSync(join(repository, 'python/scorer'), join(rootPath, 'opt/stellwerk/scorer/serve'), { recursive: true });
  write('var/stellwerk/app/score.py', score);
  for (const name of ['old', 'new']) {
    write(`var/stellwerk/${name}/ridge/1/model.json`, JSON.stringify({ name, weights: [2, 3] }));
  }
  url = `http://127.0.0.1:${(await gateway.ensureRunning()).port}/services/ws/ridge/score`;
});
afterAll(async () => {
  for (const handle of started) {
    await services.stop(handle, 0);
    await services.cleanUp(handle);
  }
  await gateway.stop();
  for (const path of [rootPath, folder]) rmSync(path, { recursive: true, force: true });
});

async function start(id: string, model: string): Promise<HostReplica> {
  const env = {
    PATH: '/usr/bin',
    AZUREML_MODEL_DIR: `/var/stellwerk/${model}`,
    STELLWERK_SCORER_PACKAGES: '/opt/stellwerk/scorer/packages',
  };
  const command = ['python3', '/opt/stellwerk/scorer/serve/serve.py'];
  const handle = await services.start({ id, rootPath, command, env });
  started.push(handle);
  return handle;
}

async function serve(replicas: HostReplica[]): Promise<void> {
  const route: ServiceRoute = {
    workspace: 'ws',
    service: 'ridge',
    replicas: replicas.map(({ id, address }) => ({ id, address })),
    authentication: 'key',
    keyHashes: [createHash('sha256').update('the-key').digest('hex')],
    limits: { bodyBytes: 1_000_000, timeoutMs: 10_000, inFlight: 100 },
  };
  await gateway.writeRoutes([route]);
  const ready = async () => (await gateway.status())!.services[0]!.replicas.filter((replica) => replica.ready).length;
  await expect.poll(ready, { timeout: 20_000 }).toBe(replicas.length);
}

async function ask(data: unknown = [[1, 2]]): Promise<{ status: number; body: Record<string, unknown> }> {
  const headers = { authorization: 'Bearer the-key' };
  const answer = await fetch(url, { method: 'POST', headers, body: JSON.stringify({ data }) });
  return { status: answer.status, body: (await answer.json()) as Record<string, unknown> };
}

it('the answer is the model’s own prediction, and a failure names neither paths nor lines', async () => {
  await serve([await start('old-1', 'old'), await start('old-2', 'old')]);
  expect(
    await ask([
      [1, 2],
      [10, 0.5],
    ]),
  ).toEqual({ status: 200, body: { predictions: [8, 21.5], of: 'old' } });
  const failed = await ask('x');
  expect(failed).toMatchObject({ status: 500, body: { code: 'scoring-failed' } });
  expect(JSON.stringify(failed.body)).not.toMatch(/\/var|\/opt|Traceback|score\.py", line/);
  const logs = (await Promise.all(started.map((handle) => services.logs(handle, 0)))).map(({ text }) => text).join('');
  expect(logs).toContain(String(failed.body.incident));
  expect(logs).toContain('Traceback');
});

it('another model is rolled out with no request lost, by a server that was restarted', async () => {
  gateway = new Gateway(needs);
  services = new HostServices({ folder: join(folder, 'replicas'), isolation: isolationHere });
  await gateway.ensureRunning();
  const answers: { status: number; of: unknown }[] = [];
  let done = false;
  const callers = Array.from({ length: 6 }, async () => {
    while (!done) {
      const { status, body } = await ask();
      answers.push({ status, of: body.of });
    }
  });
  const old = [...started];
  const fresh = [await start('new-1', 'new'), await start('new-2', 'new')];
  await serve([...old, ...fresh]);
  await serve(fresh);
  const draining = async () => (await gateway.status())!.draining.filter(({ inFlight }) => inFlight > 0);
  await expect.poll(draining, { timeout: 10_000 }).toEqual([]);
  for (const handle of old) await services.stop(handle, 10_000);
  expect(await Promise.all(old.map((handle) => services.look(handle)))).toEqual([
    { state: 'ended', exitCode: 0 },
    { state: 'ended', exitCode: 0 },
  ]);
  const since = answers.length;
  await expect
    .poll(() => Math.min(answers.length - 200, answers.length - since - 50), { timeout: 30_000 })
    .toBeGreaterThan(0);
  done = true;
  await Promise.all(callers);
  expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
  expect(new Set(answers.slice(0, 20).map(({ of }) => of))).toEqual(new Set(['old']));
  expect(new Set(answers.slice(since + 6).map(({ of }) => of))).toEqual(new Set(['new']));
});

it('a replica that is killed costs at most what it was answering', async () => {
  const [one] = started.filter(({ id }) => id.startsWith('new'));
  for (const pid of processesMarked('STELLWERK_REPLICA', markOf(one!.folder))) killProcess(pid, 'SIGKILL');
  const statuses = [];
  for (let i = 0; i < 50; i++) statuses.push((await ask()).status);
  expect(statuses.filter((status) => status !== 200).length).toBeLessThanOrEqual(1);
  await expect.poll(() => services.look(one!), { timeout: 5_000 }).toMatchObject({ state: 'ended' });
});
