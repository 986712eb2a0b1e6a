// The server dies right before and right after each change of the database that an activity makes, named one by one: between two of them
// lies each call to the world outside. Whatever the kind of activity, once the server is back it ends as if nothing had happened,
// with one job, one image, and as many replicas as are wanted.
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Activity, ActivityKind } from '@stellwerk/contract/activity.ts';
import type { SelectionReport } from '@stellwerk/contract/run-selection.ts';
import { afterAll, beforeAll, expect } from 'vitest';
import { Installation } from '../installation.ts';
import { processesWith } from '../processes.ts';
import { submit } from '../submission.ts';
import { until, untilEnded } from '../waiting.ts';
import { workFolder } from '../work-folder.ts';
import type { Death } from './dying-server.ts';

const workspace = 'story';
export const longMs = 900_000;
export let installation: Installation;
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

export const below = (...names: string[]) => join(installation.folder, 'data', ...names);
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

/** A target is attached, changed, and detached while a run is on it. */
class Targeting implements Story {
  static count = 0;
  readonly #kind: 'compute.attach' | 'compute.update' | 'compute.detach';
  readonly #ask: (name: string) => Promise<unknown>;

  constructor(kind: 'compute.attach' | 'compute.update' | 'compute.detach', ask: (name: string) => Promise<unknown>) {
    this.#kind = kind;
    this.#ask = ask;
  }

  async act() {
    const { client } = installation;
    const name = `target-${this.#kind === 'compute.attach' ? ++Targeting.count : Targeting.count}`;
    const isThere = (await client.compute.list({ workspace })).items.some((one) => one.name === name);
    if (this.#kind !== 'compute.attach' && !isThere)
      await client.compute.attach({ workspace, name, settings: { kind: 'host', maxConcurrentRuns: 1 } });
    if (this.#kind === 'compute.detach')
      await submit(installation, {
        code: 'import time\ntime.sleep(600)\n',
        target: name,
        environment: { userManaged: true },
      });
    await this.#ask(name);
  }

  async settled() {
    const { client } = installation;
    const name = `target-${Targeting.count}`;
    // It died before it was asked for, with the run that is to be in the way: whoever was told so asks again.
    if ((await client.activities.list({ workspace, kind: this.#kind, subject: name })).items.length === 0)
      await this.#ask(name);
    await endsOf(this.#kind, name);
    const found = (await client.compute.list({ workspace })).items.find((one) => one.name === name);
    if (this.#kind === 'compute.detach') {
      expect(found).toBeUndefined();
      const { items } = await client.runs.list({ workspace, filter: `target = '${name}'` });
      expect(items.map(({ state }) => state)).toEqual(items.map(() => 'canceled'));
      expect(readdirSync(below('runs'))).toEqual([]);
    } else {
      const maxConcurrentRuns = this.#kind === 'compute.attach' ? 1 : 7;
      expect(found).toMatchObject({ state: 'usable', settings: { maxConcurrentRuns } });
    }
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

/** Two ended runs, the second the child of the first, in an experiment of their own. */
async function endedRuns(experiment: string): Promise<void> {
  const { client } = installation;
  for (const [id, parent] of [[experiment], [`${experiment} below`, experiment]] as const)
    await client.runs.start({ workspace, id: id!, experiment, ...(parent !== undefined && { parent }) });
  for (const run of [`${experiment} below`, experiment])
    await client.runs.report({ workspace, run, attempt: 1, state: 'completed' });
}

class Selecting implements Story {
  #count = 0;
  readonly #kind: 'runs.archive' | 'runs.delete';

  constructor(kind: 'runs.archive' | 'runs.delete') {
    this.#kind = kind;
  }

  get #experiment() {
    return `${this.#kind} ${this.#count}`;
  }

  async act() {
    this.#count++;
    const experiment = this.#experiment;
    await endedRuns(experiment);
    const { runs } = installation.client;
    await runs[this.#kind === 'runs.archive' ? 'archiveMany' : 'deleteMany']({ workspace, experiment });
  }

  async settled() {
    const { client } = installation;
    // Whoever got no answer asks again, which is harmless: what is done already is not done twice.
    const reports = (await endsOf(this.#kind, this.#experiment)).map(({ report }) => report as SelectionReport);
    expect(reports.map(({ skipped }) => skipped)).toEqual(reports.map(() => 0));
    expect(reports.map(({ runs }) => runs).sort()).toEqual([...reports.slice(1).map(() => 0), 2]);
    const query = { workspace, experiment: this.#experiment, archived: 'with' } as const;
    const left = (await client.runs.query(query)).items.map(({ archivedAt }) => archivedAt !== undefined);
    expect(left).toEqual(this.#kind === 'runs.archive' ? [true, true] : []);
    const entries = (await client.trash.list({ workspace })).items.filter(({ name }) => name === this.#experiment);
    expect(entries).toMatchObject(this.#kind === 'runs.archive' ? [] : [{ kind: 'run', runs: 2 }]);
  }
}

class Emptying implements Story {
  #count = 0;

  async act() {
    const name = `emptied ${++this.#count}`;
    await endedRuns(name);
    await installation.client.runs.delete({ workspace, run: name });
    const { items } = await installation.client.trash.list({ workspace });
    await installation.client.trash.empty({ workspace, entry: items.find((entry) => entry.name === name)!.id });
  }

  async settled() {
    const { client } = installation;
    const { items } = await client.activities.list({ workspace, kind: 'trash.empty' });
    const [{ report }] = (await endsOf('trash.empty', items[0]!.subject)) as [Activity];
    expect(report).toEqual({ runs: 2, models: 0 });
    for (const run of [`emptied ${this.#count}`, `emptied ${this.#count} below`])
      await expect(client.runs.get({ workspace, run })).rejects.toMatchObject({ reason: 'run.not-found' });
  }
}

class Collecting implements Story {
  #count = 0;
  readonly #digests = () => ['loose', 'kept'].map((word) => digestOf(`${word} ${this.#count}`));

  async act() {
    this.#count++;
    const { client } = installation;
    const run = `keeper ${this.#count}`;
    await client.runs.start({ workspace, id: run, experiment: 'keepers' });
    for (const word of ['loose', 'kept']) {
      const content = Buffer.from(`${word} ${this.#count}`);
      await client.blobs.append(
        { workspace, digest: digestOf(content), sizeBytes: content.length },
        new Uint8Array(content),
      );
    }
    await client.runs.putFile({ workspace, run, path: 'kept', digest: this.#digests()[1]! });
    await client.runs.report({ workspace, run, attempt: 1, state: 'completed' });
    await client.server.collectGarbage({ graceHours: 0 });
  }

  async settled() {
    const { client } = installation;
    const collection = await until('the collection has ended', async () => {
      const [last] = (await client.server.listCollections({})).items;
      return last?.endedAt !== undefined && last;
    });
    expect(collection, collection.error?.message).toMatchObject({ state: 'succeeded' });
    const [loose, kept] = this.#digests().map((digest) =>
      below('blobs', 'sha256', digest.slice(7, 9), digest.slice(7)),
    );
    expect(existsSync(loose!)).toBe(false);
    expect(readFileSync(kept!, 'utf8')).toBe(`kept ${this.#count}`);
  }
}

const digestOf = (content: string | Buffer) => `sha256:${createHash('sha256').update(content).digest('hex')}`;

/** The activities of a kind about something, the last first. */
async function endsOf(kind: StoryKind, subject: string): Promise<Activity[]> {
  const ended = await until('the activities have ended', async () => {
    const { items } = await installation.client.activities.list({ workspace, kind, subject });
    return items.length > 0 && items.every(({ endedAt }) => endedAt !== undefined) && items;
  });
  for (const activity of ended) expect(activity, activity.error?.message).toMatchObject({ state: 'succeeded' });
  return ended;
}

/** What is made lies on an engine: theirs are with the kinds that make something. */
export const onEngines = ['compute.create', 'compute.delete'] as const satisfies ActivityKind[];

/** A kind of activity that comes without a story does not compile. */
type StoryKind = Exclude<ActivityKind, (typeof onEngines)[number]>;
export const stories: Record<StoryKind, Story> = {
  run: new Running(),
  'compute.attach': new Targeting('compute.attach', (name) =>
    installation.client.compute.attach({ workspace, name, settings: { kind: 'host', maxConcurrentRuns: 1 } }),
  ),
  'compute.update': new Targeting('compute.update', (target) =>
    installation.client.compute.update({ workspace, target, settings: { kind: 'host', maxConcurrentRuns: 7 } }),
  ),
  'compute.detach': new Targeting('compute.detach', (target) =>
    installation.client.compute.detach({ workspace, target, force: true }),
  ),
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
  'runs.archive': new Selecting('runs.archive'),
  'runs.delete': new Selecting('runs.delete'),
  'trash.empty': new Emptying(),
  'server.collect': new Collecting(),
};

/** What asks for the activity is told of a failure by its answer; and some things go on all the time. */
const others =
  / (activity\.(renew|releaseAll)|(run|image|web-service|compute)\.(insert|begin)|(run-selection|trash-activity|collection)\.begin|run-trash\.discard|run-selection\.keys|collection\.last|snapshot\.(insert|touch|complete)|blob\.(touch|touchAll|hold)|web-service\.(begin|settleAbandoned)|run\.report$)(?![a-zA-Z])/;
const isOfTheActivity = (kind: StoryKind) => (point: string) =>
  /^(before|after) (activity|compute|run|image|web-service|run-selection|run-trash|trash|collection|blob|snapshot)\./.test(
    point,
  ) &&
  !others.test(point) &&
  (kind === 'run' || !/ run\./.test(point)) && // what the runs that it is about report
  !/\((?!2\))\d+\)$/.test(point);

const preload = { NODE_OPTIONS: `--import ${join(import.meta.dirname, 'dying-server.ts')}` };
let recordings = 0;

/** Lets it happen on a server that may die, and looks that it is right. */
export async function happens(kind: StoryKind, death: Death): Promise<void> {
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
async function pointsOf(kind: StoryKind): Promise<string[]> {
  const file = join(installation.folder, `changes-${++recordings}`);
  await happens(kind, { STORY_CHANGES: file });
  return [...new Set(readFileSync(file, 'utf8').trim().split('\n').filter(isOfTheActivity(kind)))];
}

/** At each point of each kind in turn: what one makes is what the next one changes. */
export async function dieAtEachPoint(...kinds: StoryKind[]): Promise<void> {
  const points: { kind: StoryKind; of: string[] }[] = [];
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
