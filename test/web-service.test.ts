// Item 13: a web service on the host. Whatever happens to it, to its replicas and to the server: no request is lost.
import { chmodSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { Image } from '@stellwerk/contract/image.ts';
import type { WebService } from '@stellwerk/contract/web-service.ts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { askWhile, type Tally } from '../tools/demo/steady-requests.ts';
import { Installation } from './installation.ts';
import { isAlive, processesWith } from './processes.ts';
import { asked, typed } from './typing.ts';
import { until } from './waiting.ts';
import { workFolder } from './work-folder.ts';

let installation: Installation;
const name = 'dienst';

/** As it was written for Azure ML SDK v1: azureml's names, `init()` and `run(raw_data)`. */
const scoreOf = (says: string) => `
import json, os, sys
from azureml.core.model import Model

def init():
    global weights
    weights = open(Model.get_model_path("gewichte")).read()
    print("${says} has loaded", weights)

def run(raw_data):
    data = json.loads(raw_data)
    if data.get("fail"):
        raise ValueError("this cannot be scored")
    return {"says": "${says}", "weights": weights, "double": [2 * value for value in data["data"]], "pid": os.getpid()}
`;

async function imageOf(says: string, score = scoreOf(says)): Promise<Image> {
  const folder = workFolder(installation.folder, { 'score.py': score });
  return asked<Image>(installation, 'image', 'create', folder, '--name', 'bild', '--model', 'gewichte');
}

beforeAll(async () => {
  installation = await Installation.start();
  await typed(
    installation,
    'model',
    'register',
    join(workFolder(installation.folder, { 'g.txt': '0.5' }), 'g.txt'),
    '--name',
    'gewichte',
  );
  for (const says of ['eins', 'zwei']) expect((await imageOf(says)).state).toBe('succeeded');
  await typed(installation, 'service', 'deploy', name, '--image', 'bild:1', '--target', 'host', '--replicas', '2');
});
afterAll(() => installation?.[Symbol.asyncDispose]());

const which = () => ({ workspace: installation.workspace, service: name });
const service = () => installation.client.services.get(which());
const keys = () => installation.client.services.getKeys(which());
const data = JSON.stringify({ data: [1, 2] });

async function score(key: string | undefined, body = data): Promise<Response> {
  const { scoringUri } = await service();
  const headers = { 'content-type': 'application/json', ...(key !== undefined && { authorization: `Bearer ${key}` }) };
  return fetch(scoringUri, { method: 'POST', headers, body });
}

const says = (word: string) => (answer: unknown) => {
  const { says, weights, double } = answer as { says: string; weights: string; double: number[] };
  return says === word && weights === '0.5' && double.join() === '2,4';
};

/** Asks steadily while something happens; every request must get a right answer. */
async function whileAsked(happens: () => Promise<unknown>, ...words: string[]): Promise<Tally> {
  const { scoringUri: url } = await service();
  const { primary: key } = await keys();
  const happening = happens();
  const tally = await askWhile({ url, key, data }, happening, words.map(says));
  await happening;
  expect(tally.wrong).toEqual([]);
  return tally;
}

const readyReplicas = async () => (await service()).replicaStates.filter(({ state }) => state === 'ready');
/** The processes that answer. */
async function answering(): Promise<Set<number>> {
  const { primary } = await keys();
  const answers = await Promise.all(
    Array.from({ length: 20 }, () => score(primary).then((response) => response.json() as Promise<{ pid: number }>)),
  );
  return new Set(answers.map(({ pid }) => pid));
}

test('several replicas answer behind one address, a score.py of SDK v1 among them, and a failing request is told from a lost one', async () => {
  const deployed = await service();
  expect(deployed).toMatchObject({ state: 'healthy', image: 'bild:1', models: ['gewichte:1'], replicas: 2 });
  expect(deployed.isolation).toBe('namespace');
  expect(await readyReplicas()).toHaveLength(2);
  const { primary } = await keys();
  const answer = await score(primary);
  expect(says('eins')(await answer.json())).toBe(true);
  const failed = await score(primary, JSON.stringify({ fail: true, data: [] }));
  const text = await failed.text();
  expect(failed.status).toBeGreaterThanOrEqual(400);
  expect(text).not.toContain(installation.folder);
  expect(JSON.parse(await typed(installation, 'service', 'run', name, '--data', data))).toMatchObject({ says: 'eins' });
  const log = await typed(installation, 'service', 'get-log', name);
  expect(log).toContain('eins has loaded 0.5');
  expect(log).toContain('this cannot be scored');
});

test('only a key opens it; a regenerated key is the only one of the two that counts', async () => {
  const before = await keys();
  for (const wrong of [undefined, '', 'wrong', installation.token])
    expect((await score(wrong)).status, String(wrong)).toBe(401);
  expect((await score(before.secondary)).status).toBe(200);
  const after = await asked<typeof before>(installation, 'service', 'regenerate-key', name, 'primary');
  expect(after.primary).not.toBe(before.primary);
  expect(after.secondary).toBe(before.secondary);
  await until('the old key counts no more', async () => (await score(before.primary)).status === 401);
  expect((await score(after.primary)).status).toBe(200);
  expect((await score(after.secondary)).status).toBe(200);
});

test('an update to another image loses no request, and every answer is of one image or the other', async () => {
  const tally = await whileAsked(
    () => typed(installation, 'service', 'update', name, '--image', 'bild:2'),
    'eins',
    'zwei',
  );
  expect(tally.byPrediction[0]).toBeGreaterThan(0);
  expect(tally.byPrediction[1]).toBeGreaterThan(0);
  expect(await service()).toMatchObject({ state: 'healthy', image: 'bild:2' });
  expect((await whileAsked(() => pause(100), 'zwei')).wrong).toEqual([]);
});

test('it is scaled up and down with no request lost', async () => {
  const scaled = async (replicas: number) => {
    await typed(installation, 'service', 'scale', name, '--replicas', String(replicas));
    await until(
      `${replicas} replicas are ready`,
      async () => (await readyReplicas()).length === replicas && (await service()).replicaStates.length === replicas,
    );
  };
  await whileAsked(() => scaled(3), 'zwei');
  expect((await service()).replicas).toBe(3);
  await whileAsked(() => scaled(1), 'zwei');
  expect((await service()).replicas).toBe(1);
});

test('a new version that does not start is undone: the old one goes on answering, and the reason is told', async () => {
  const broken = await imageOf(
    'kaputt',
    'def init():\n    raise RuntimeError("the weights are not there")\ndef run(data): pass\n',
  );
  const tally = await whileAsked(async () => {
    const updated = await installation.cli(['service', 'update', name, '--image', broken.id]);
    expect(updated).toMatchObject({ code: 1, stderr: expect.stringContaining('the weights are not there') });
  }, 'zwei');
  expect(tally.sent).toBeGreaterThan(20);
  expect(await service()).toMatchObject({ state: 'healthy', image: 'bild:2' });
});

test('the server is killed and started again while requests go on: none is lost, and it finds gateway and replicas as they were', async () => {
  await typed(installation, 'service', 'scale', name, '--replicas', '2');
  await until('two replicas are ready', async () => (await readyReplicas()).length === 2);
  const processes = await answering();
  await whileAsked(async () => {
    await installation.stop('SIGKILL');
    await pause(1_000);
    await installation.up();
    await until('the server knows its service', async () => (await service()).state === 'healthy');
  }, 'zwei');
  expect(await answering()).toEqual(processes);
  expect((await service()).replicaStates.every(({ state }) => state === 'ready')).toBe(true);
  await whileAsked(() => typed(installation, 'service', 'update', name, '--image', 'bild:1'), 'eins', 'zwei');
});

test('a replica that is killed is started again', async () => {
  const before = (await readyReplicas()).map(({ id, startedAt }) => `${id} ${startedAt}`);
  const [victim] = processesWith(`${join(installation.folder, 'data')}`).filter((pid) => isReplica(pid));
  expect(victim).toBeDefined();
  process.kill(victim!, 'SIGKILL');
  await until('another has taken its place', async () => {
    const now = (await readyReplicas()).map(({ id, startedAt }) => `${id} ${startedAt}`);
    return now.length === 2 && now.join() !== before.join();
  });
  expect(isAlive(victim!)).toBe(false);
  await whileAsked(() => pause(200), 'eins');
});

/** The scorer in the root of its image. */
function isReplica(pid: number): boolean {
  return /uvicorn|scorer/.test(readFileSync(`/proc/${pid}/cmdline`, 'utf8'));
}

test('deleted, it answers no more, and no process of it is left', async () => {
  const { scoringUri } = await service();
  const { primary } = await keys();
  const image = await installation.cli(['image', 'delete', 'bild:1']);
  expect(image).toMatchObject({ code: 1, stderr: expect.stringContaining(name) });
  await typed(installation, 'service', 'delete', name);
  await until('it is gone', async () => (await installation.cli(['service', 'get', name])).code === 1);
  const answer = await fetch(scoringUri, {
    method: 'POST',
    headers: { authorization: `Bearer ${primary}` },
    body: data,
  }).catch(() => undefined);
  expect(answer === undefined || answer.status === 404).toBe(true);
  await until('no replica runs', () => processesWith(installation.folder).every((pid) => !isReplica(pid)));
});

test('where the machine refuses namespaces the image serves all the same, with its own Python, and no isolation is claimed', async () => {
  const refusing = workFolder(installation.folder, { unshare: '#!/bin/sh\nexit 1\n' });
  chmodSync(join(refusing, 'unshare'), 0o755);
  await using place = await Installation.start([], { PATH: `${refusing}:${process.env.PATH}` });
  const folder = workFolder(place.folder, { 'g.txt': '0.5', 'score.py': scoreOf('frei') });
  await typed(place, 'model', 'register', join(folder, 'g.txt'), '--name', 'gewichte');
  await typed(place, 'image', 'create', folder, '--name', 'bild', '--model', 'gewichte');
  const deployed = await asked<WebService>(place, 'service', 'deploy', name, '--image', 'bild');
  expect(deployed).toMatchObject({ state: 'healthy', isolation: 'none' });
  expect(says('frei')(JSON.parse(await typed(place, 'service', 'run', name, '--data', data)))).toBe(true);
  const log = await typed(place, 'service', 'get-log', name);
  expect(log).toContain('frei has loaded 0.5');
});
