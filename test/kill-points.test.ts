// The server dies right before and right after each change of the database that an activity makes, named one by one: between two of them
// lies each call to the world outside. Whatever the kind of activity, once the server is back it ends as if nothing had happened,
// with one job, one image, and as many replicas as are wanted.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type ActivityKind, activityKind } from '@stellwerk/contract/activity.ts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Death } from './dying-server.ts';
import { Installation } from './installation.ts';
import { processesWith } from './processes.ts';
import { submit } from './submission.ts';
import { typed } from './typing.ts';
import { until, untilEnded } from './waiting.ts';
import { workFolder } from './work-folder.ts';

const workspace = 'story';
const longMs = 900_000;
let installation: Installation;
beforeAll(async () => {
  installation = await Installation.start([], { STELLWERK_RUN_LEASE_MS: '3000', STELLWERK_ACTIVITY_LEASE_MS: '1500' });
  for (const says of ['eins', 'zwei']) await imageSaying(says);
});
afterAll(() => installation[Symbol.asyncDispose]());

interface Story {
  /** Asks for it; the server may die at any moment. */
  act(): Promise<unknown>;
  /** Once the server is back: waits for the end, and looks that it is right. */
  settled(): Promise<void>;
}

const below = (...names: string[]) => join(installation.folder, 'data', ...names);
const imageSaying = (says: string, name = 'bild') => {
  const score = `def init():\n    pass\n\ndef run(raw_data):\n    return "${says}"\n`;
  const folder = workFolder(installation.folder, { 'score.py': score });
  return installation.cli(['image', 'create', folder, '--name', name]);
};

class Running implements Story {
  #count = 0;
  #folder = '';
  get #id() {
    return `run ${this.#count}`;
  }

  async act() {
    this.#count++;
    this.#folder = workFolder(installation.folder, {});
    await submit(installation, {
      id: this.#id,
      code: `
import os, time
with open(os.path.join(os.environ["STORY"], "started"), "a") as file:
    file.write("once\\n")
from stellwerk.core import Run
Run.get_context().log("reached", 1)
os.makedirs("outputs", exist_ok=True)
open("outputs/made.txt", "w").write("made")
print("worked", flush=True)
time.sleep(0.5)
`,
      environment: { userManaged: true },
      environmentVariables: { STORY: this.#folder },
    });
  }

  async settled() {
    const { client } = installation;
    const of = { workspace, run: this.#id };
    const ended = await untilEnded({ client, ...of });
    expect(ended, ended.reason).toMatchObject({ state: 'completed', exitCode: 0, attempt: 1 });
    expect(readFileSync(join(this.#folder, 'started'), 'utf8')).toBe('once\n');
    expect(await (await client.logs.get(of)).text()).toBe('worked\n');
    expect((await client.metrics.list(of)).items).toMatchObject([{ name: 'reached', count: 1 }]);
    expect(await (await client.runs.getFile({ ...of, path: 'outputs/made.txt' })).text()).toBe('made');
    await until('nothing of it is left', () => readdirSync(below('runs')).length === 0);
    expect((await client.compute.get({ workspace, target: 'host' })).running).toBe(0);
    expect(processesWith(this.#folder)).toEqual([]);
  }
}

class Building implements Story {
  #count = 0;

  async act() {
    await imageSaying(`number ${++this.#count}`, `bild-${this.#count}`);
  }

  async settled() {
    const { client } = installation;
    const which = { workspace, name: `bild-${this.#count}`, version: '1' };
    const image = await until('the image is built', async () => {
      const found = await client.images.get(which);
      return found.state !== 'building' && found;
    });
    expect(image).toMatchObject({ state: 'succeeded', version: 1 });
    expect((await client.images.list({ workspace, name: which.name })).items).toHaveLength(1);
    const exported = await client.images.export({ ...which, format: 'oci' });
    expect((await exported.arrayBuffer()).byteLength).toBeGreaterThan(1_000_000);
    const log = await client.activities.getLog({ workspace, activity: image.activity! });
    expect(await log.text()).toContain(`Built ${image.digest}.`);
  }
}

/** One web service for all of them, which exists between its deployment and its deletion. */
class Serving implements Story {
  static replicas = 1;
  static image = 1;
  readonly #act: () => Promise<unknown>;
  readonly #exists: boolean;

  constructor(act: () => Promise<unknown>, exists = true) {
    this.#act = act;
    this.#exists = exists;
  }

  act() {
    return this.#act();
  }

  async settled() {
    const { client } = installation;
    const service = async () => (await client.services.list({ workspace })).items[0];
    const replicas = () => readdirSync(below('replicas'));
    if (!this.#exists) {
      await until('it is gone', async () => (await service()) === undefined);
      expect(replicas()).toEqual([]);
      await until('no process of it is left', () => processesWith(below('replicas')).length === 0);
      return;
    }
    const { replicas: wanted, image } = Serving;
    const found = await until('it serves as it is wanted', async () => {
      const { state, replicas, image: serves } = await client.services.get(which);
      return state === 'healthy' && replicas === wanted && serves === `bild:${image}`;
    });
    expect(found).toBe(true);
    const { scoringUri, replicaStates } = await client.services.get(which);
    expect(replicaStates.map(({ state }) => state)).toEqual(Array(wanted).fill('ready'));
    expect(replicas()).toHaveLength(wanted);
    const { primary } = await client.services.getKeys(which);
    const headers = { authorization: `Bearer ${primary}`, 'content-type': 'application/json' };
    const answer = await fetch(scoringUri, { method: 'POST', headers, body: '{}' });
    expect(await answer.json()).toBe(image === 1 ? 'eins' : 'zwei');
  }
}
const which = { workspace, service: 'dienst' };

/** A kind of activity that comes without a story does not compile. */
const stories: Record<ActivityKind, Story> = {
  run: new Running(),
  'image.build': new Building(),
  'web-service.deploy': new Serving(() => {
    const image = `bild:${Serving.image}`;
    Serving.replicas = 1;
    return installation.client.services.deploy({ workspace, name: which.service, image, target: 'host' });
  }),
  'web-service.update': new Serving(() => {
    Serving.image = 3 - Serving.image;
    return installation.client.services.update({ ...which, image: `bild:${Serving.image}` });
  }),
  'web-service.scale': new Serving(() => {
    Serving.replicas = 3 - Serving.replicas;
    return installation.client.services.scale({ ...which, replicas: Serving.replicas });
  }),
  'web-service.delete': new Serving(() => installation.client.services.delete(which), false),
};

/** What asks for the activity is told of a failure by its answer; and some things go on all the time. */
const others =
  / (activity\.(renew|releaseAll)|(run|image|web-service)\.insert|web-service\.(begin|settleAbandoned)|run\.report$)(?![a-zA-Z])/;
const isOfTheActivity = (point: string) =>
  /^(before|after) (activity|run|image|web-service)\./.test(point) &&
  !others.test(point) &&
  !/\((?!2\))\d+\)$/.test(point);

const preload = { NODE_OPTIONS: `--import ${join(import.meta.dirname, 'dying-server.ts')}` };
let recordings = 0;

/** Lets it happen on a server that may die, and looks that it is right. */
async function happens(kind: ActivityKind, death: Death): Promise<void> {
  await installation.stop(); // what is left of the story before is not met again
  await installation.up({ ...preload, ...death });
  const acting = stories[kind].act().catch(() => {}); // its answer may die with the server
  const { STORY_DIES_AT: point } = death;
  if (point !== undefined) {
    await until(`the server dies ${point}`, () => !installation.isUp);
    await installation.up();
  }
  await acting;
  await stories[kind].settled().catch((error: unknown) => {
    throw new Error(`${kind}, killed ${point ?? 'not at all'}: ${(error as Error).message}`, { cause: error });
  });
}

/** The points of an activity, in their order, as they are met when nothing goes wrong. */
async function pointsOf(kind: ActivityKind): Promise<string[]> {
  const file = join(installation.folder, `changes-${++recordings}`);
  await happens(kind, { STORY_CHANGES: file });
  return [...new Set(readFileSync(file, 'utf8').trim().split('\n').filter(isOfTheActivity))];
}

/** At each point of each kind in turn: what one makes is what the next one changes. */
async function dieAtEachPoint(...kinds: ActivityKind[]): Promise<void> {
  const points: { kind: ActivityKind; of: string[] }[] = [];
  for (const kind of kinds) points.push({ kind, of: await pointsOf(kind) });
  for (const { kind, of } of points) {
    process.stdout.write(
      `${kind}: ${of.length} points: ${of.filter((point) => point.startsWith('after')).join(', ')}\n`,
    );
    expect(of.some((point) => point === `after activity.claim: ${kind}`)).toBe(true);
    expect(of.length).toBeGreaterThanOrEqual(5);
  }
  for (let at = 0; points.some(({ of }) => at < of.length); at++)
    for (const { kind, of } of points) {
      const point = of[at];
      await happens(kind, point === undefined ? {} : { STORY_DIES_AT: point });
    }
}

test('every kind of activity has its story', () => {
  expect(Object.keys(stories).sort()).toEqual([...activityKind.options].sort());
});

test('a run is executed once, wherever the server dies', () => dieAtEachPoint('run'), longMs);

test('an image is built whole and once, wherever the server dies', () => dieAtEachPoint('image.build'), longMs);

test(
  'a web service is deployed with the replicas that it should have, and deleted with all of them, wherever the server dies',
  () => dieAtEachPoint('web-service.deploy', 'web-service.delete'),
  longMs,
);

test(
  'a web service is updated and scaled to what is wanted, wherever the server dies',
  async () => {
    await happens('web-service.deploy', {});
    await dieAtEachPoint('web-service.update');
    await dieAtEachPoint('web-service.scale', 'web-service.scale');
    const verified = await typed(installation, 'verify', '--data', below());
    expect(verified).toContain('All is there and right.');
  },
  longMs,
);
