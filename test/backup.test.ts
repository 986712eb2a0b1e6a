// A backup of a server at work, restored elsewhere: everything is there and equal, ids included, and serves again; what goes on where
// it was saved is not touched.
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import type { Client } from '@stellwerk/client/client.ts';
import type { Run } from '@stellwerk/contract/run.ts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Installation } from './installation.ts';
import { isAlive } from './processes.ts';
import { pythonSignals, Signals } from './signals.ts';
import { runOf, submit } from './submission.ts';
import { asked, typed } from './typing.ts';
import { until, untilEnded, untilState } from './waiting.ts';
import { workFolder } from './work-folder.ts';

const workspace = 'story';
const userManaged = { environment: { userManaged: true } };
let installation: Installation;
beforeAll(async () => {
  installation = await Installation.start([], { STELLWERK_RUN_LEASE_MS: '3000', STELLWERK_ACTIVITY_LEASE_MS: '2000' });
});
afterAll(() => installation[Symbol.asyncDispose]());

const tireless = `${pythonSignals}
from stellwerk.core import Run
run = Run.get_context()
tell("began")
step = 0
while not os.path.exists(os.path.join(os.environ["STORY"], "enough")):
    for _ in range(200):
        run.log("loss", step, step=step)
        step += 1
    print("step %d" % step, flush=True)
    time.sleep(0.02)
tell("logged", str(step))
`;

const training = `
import os
from stellwerk.core import Run
run = Run.get_context()
for step in range(5000):
    run.log("loss", 1 / (step + 1), step=step)
with run.child_run(name="inner") as child:
    child.log_list("values", [1, 2, 3])
run.tag("colour", "blue")
with open("outputs/weights.bin", "wb") as file:
    file.write(os.urandom(300000))
print("trained")
`;

const score = `
import json
from azureml.core.model import Model

def init():
    global weights
    weights = open(Model.get_model_path("weights"), "rb").read()

def run(raw_data):
    return {"bytes": len(weights), "data": json.loads(raw_data)}
`;

/** All that a user can see of what has ended: records, points, logs and files by their hashes. */
async function seen(client: Client, run: string) {
  const of = { workspace, run };
  const files = (await client.runs.listFiles(of)).items;
  const bytes = await Promise.all(files.map(async ({ path }) => hashOf(await client.runs.getFile({ ...of, path }))));
  const { snapshot } = await client.runs.get(of);
  return {
    record: await client.runs.get(of),
    files,
    bytes,
    snapshot: snapshot && (await hashOf(await client.snapshots.download({ workspace, snapshot }))),
    metrics: (await client.metrics.list(of)).items,
    points: await client.metrics.getSeries({ ...of, name: 'loss', limit: 50_000 }),
    log: await (await client.logs.get(of)).text(),
  };
}

async function hashOf(response: Response): Promise<string> {
  return createHash('sha256')
    .update(Buffer.from(await response.arrayBuffer()))
    .digest('hex');
}

/** Contents by their path, which is their hash; and they are what they are called. */
function contents(of: Installation): string[] {
  const folder = join(of.folder, 'data', 'blobs', 'sha256');
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => name.length > 60);
  for (const name of names)
    expect(name.slice(3)).toBe(
      createHash('sha256')
        .update(readFileSync(join(folder, name)))
        .digest('hex'),
    );
  return names.sort();
}

/** Where an image is pulled from is the server's own address. */
const told = (items: object[], { url }: Installation) =>
  JSON.parse(JSON.stringify(items).replaceAll(new URL(url).host, 'the server')) as object[];

test('a server is saved while runs log, and restored elsewhere: all is equal, the model serves, and the first one goes on', async () => {
  const trained = await runOf(installation, { code: training, ...userManaged });
  expect(trained, trained.reason).toMatchObject({ state: 'completed' });
  await typed(
    installation,
    'model',
    'register',
    '--name',
    'weights',
    '--run',
    trained.id,
    '--path',
    'outputs/weights.bin',
  );
  const scoring = workFolder(installation.folder, { 'score.py': score });
  await typed(installation, 'image', 'create', scoring, '--name', 'picture', '--model', 'weights');
  await typed(installation, 'service', 'deploy', 'answers', '--image', 'picture:1', '--target', 'host');
  await typed(installation, 'datastore', 'upload', 'default', join(scoring, 'score.py'), 'kept/score.py');
  const going: { run: Run; signals: Signals }[] = [];
  for (const target of ['host', 'local']) {
    const signals = new Signals(installation.folder);
    const { environmentVariables } = signals;
    going.push({
      run: await submit(installation, { code: tireless, target, ...userManaged, environmentVariables }),
      signals,
    });
    await signals.heard('began');
  }
  for (const { run } of going)
    await until('its first points are on the server', async () => {
      const { items } = await installation.client.metrics.list({ workspace, run: run.id });
      return items.length > 0;
    });

  const archive = join(installation.folder, 'saved', 'all.tar');
  expect(await typed(installation, 'backup', archive)).toContain('read it back');
  expect(statSync(archive).mode & 0o777).toBe(0o600);
  expect(await typed(installation, 'verify', '--archive', archive)).toContain('is whole');
  const before = contents(installation);

  await using other = await Installation.restored(archive, installation);
  const { client } = other;
  expect(await seen(client, trained.id)).toEqual(await seen(installation.client, trained.id));
  expect(contents(other).filter((name) => !before.includes(name))).toEqual([]);
  for (const list of ['models', 'images', 'datastores'] as const)
    expect(told((await client[list].list({ workspace })).items, other)).toEqual(
      told((await installation.client[list].list({ workspace })).items, installation),
    );
  const kept = { workspace, datastore: 'default', path: 'kept/score.py' };
  const { defaultDatastore: datastore } = await client.workspaces.get({ workspace });
  expect(await (await client.datastores.getFile({ ...kept, datastore })).text()).toBe(score);
  const { items: children } = await client.runs.query({ workspace, parent: trained.id });
  expect(children).toMatchObject([{ displayName: 'inner', state: 'completed' }]);

  // Both serve, each its own replica, with the same keys.
  const answer = async (of: Installation) => {
    const { scoringUri } = await of.client.services.get({ workspace, service: 'answers' });
    const { primary } = await of.client.services.getKeys({ workspace, service: 'answers' });
    const headers = { authorization: `Bearer ${primary}`, 'content-type': 'application/json' };
    return (await fetch(scoringUri, { method: 'POST', headers, body: '[1]' })).json();
  };
  const service = { workspace, service: 'answers' };
  const right = { bytes: 300_000, data: [1] };
  await until('it serves there too', async () => isDeepStrictEqual(await answer(other), right));
  expect(await answer(installation)).toEqual(right);
  expect(await client.services.getKeys(service)).toEqual(await installation.client.services.getKeys(service));

  // Its runs went on elsewhere: here they are lost, which ends no process of theirs.
  for (const { run } of going) await untilState({ client, workspace, run: run.id }, 'lost');
  for (const { signals } of going) signals.tell('enough');
  for (const { run, signals } of going) {
    const steps = Number(readFileSync(await signals.heard('logged'), 'utf8'));
    const of = { workspace, run: run.id };
    const ended = await untilEnded({ client: installation.client, ...of });
    expect(ended, ended.reason).toMatchObject({ state: 'completed', attempt: 1 });
    const whole = (await installation.client.metrics.list(of)).items;
    expect(whole).toMatchObject([{ name: 'loss', count: steps }]);
    const { points } = await client.metrics.getSeries({ ...of, name: 'loss', limit: 100_000 });
    expect(points!.map(({ value }) => value)).toEqual(points!.map((_, step) => step));
    expect(points!.length).toBeLessThanOrEqual(steps);
    const log = await (await installation.client.logs.get(of)).text();
    expect(log.startsWith(await (await client.logs.get(of)).text())).toBe(true);
  }
  expect(await typed(other, 'verify', '--data', join(other.folder, 'data'))).toContain('All is there and right.');
  await client.runs.cancel({ workspace, run: going[1]!.run.id });
});

test('a backup is for the administrator alone, and is written down; one that is cut off is refused and leaves nothing', async () => {
  const { client } = installation;
  const { signIn } = await client.users.create({ name: 'ada', kind: 'user' });
  await client.members.set({ workspace, user: 'ada', role: 'owner' });
  const { token } = await client.signIns.redeem({ code: new URL(signIn!.url).hash.slice(1), tokenName: 'hers' });
  await expect(installation.clientWith(token).server.backup()).rejects.toMatchObject({ status: 403 });
  const archive = join(installation.folder, 'again.tar');
  const answered = await asked<{ contents: number }>(installation, 'backup', archive);
  expect(answered.contents).toBeGreaterThan(0);
  const { items } = await client.audit.list({});
  expect(items.filter(({ verb }) => verb === 'server.backup').map(({ outcome }) => outcome)).toContain('done');
  writeFileSync(archive, readFileSync(archive).subarray(0, 2_000_000));
  const data = join(installation.folder, 'elsewhere');
  const refused = await installation.cli(['restore', archive, '--data', data]);
  expect(refused.code).toBe(1);
  expect(refused.stderr).toMatch(/is cut off|ends in the middle/);
  expect(readdirSync(installation.folder).filter((name) => name.includes('elsewhere'))).toEqual([]);
  const full = await installation.cli(['restore', archive, '--data', join(installation.folder, 'data')]);
  expect(full.stderr).toContain('is not empty');
  expect(isAlive(installation.pid)).toBe(true);
});

test('verify names a lost content, who uses it, and ends with 1', async () => {
  const { id } = await runOf(installation, { code: 'open("outputs/a.txt", "w").write("lost")', ...userManaged });
  const { items } = await installation.client.runs.listFiles({ workspace, run: id });
  const digest = items.find(({ path }) => path === 'outputs/a.txt')!.digest!;
  const hex = digest.slice('sha256:'.length);
  const data = join(installation.folder, 'data');
  rmSync(join(data, 'blobs', 'sha256', hex.slice(0, 2), hex));
  const found = await installation.cli(['verify', '--data', data]);
  expect(found.code).toBe(1);
  expect(found.stdout).toContain(`${digest} is missing`);
  const backup = await installation.cli(['backup', join(installation.folder, 'no.tar')]);
  expect(backup.code).toBe(1);
  expect(backup.stderr).toContain('is missing');
  expect(backup.stderr).toContain('stellwerk verify');
});
