// `npm run demo`: the whole workflow on real data, from an empty workspace to a web service that is rolled over to a second model
// version, typed as a user would type it, every result checked. `-- --exit` stops everything at the end, and leaves no process;
// it ends with 0 only if each step gave the right result.
import { cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

import type { Client } from '@stellwerk/client/client.ts';
import { downloadTo } from '@stellwerk/client/downloads.ts';
import type { Model } from '@stellwerk/contract/model.ts';
import type { Run } from '@stellwerk/contract/run.ts';
import { endStates } from '@stellwerk/contract/run-state.ts';
import { isSame, predictionOf } from './demo/prediction.ts';
import { processesOf, ServerProcess } from './demo/server-process.ts';
import { Shell, StepFailed } from './demo/shell.ts';
import { askWhile, type Caller } from './demo/steady-requests.ts';

const patients = JSON.stringify({
  data: [
    [0.038, 0.051, 0.062, 0.022, -0.044, -0.035, -0.043, -0.003, 0.02, -0.018],
    [-0.002, -0.045, -0.051, -0.026, -0.008, -0.019, 0.074, -0.039, -0.068, -0.092],
  ],
});
const workspace = 'diabetes';
const alphas = 5;

function expect(condition: unknown, what: string): asserts condition {
  if (!condition) throw new StepFailed(what);
}

async function step(number: number, title: string, action: () => Promise<string>): Promise<void> {
  process.stdout.write(`\n${number}. ${title}\n`);
  const begun = performance.now();
  const result = await action();
  process.stdout.write(`  → ${result} (${((performance.now() - begun) / 1_000).toFixed(1)} s)\n`);
}

async function walk(shell: Shell, server: ServerProcess): Promise<void> {
  let client: Client;
  let run: Run;
  let children: Run[] = [];
  let first: Model;
  let caller: Caller;
  let firstPrediction: number[];
  const scoring = ['--environment.conda-file', 'scoring.yml', '--environment.python-fallback'];

  await step(1, 'A workspace', async () => {
    await shell.type('login', server.started.signIn);
    await shell.type('init', 'diabetes', '--create');
    client = shell.client();
    expect((await client.workspaces.get({ workspace })).name === workspace, 'The workspace is not there.');
    return 'the workspace diabetes, its connection in .stellwerk/config.json';
  });
  await step(2, 'A run configuration from train.runconfig, its environment built from environment.yml', async () => {
    await shell.type('run', 'submit', '.', '--configuration', 'train.runconfig', '--experiment', 'ridge');
    const [submitted] = (await client.runs.list({ workspace, experiment: 'ridge', columns: ['configuration'] })).items;
    expect(submitted?.configuration?.script === 'train.py', 'The run was not recorded with its configuration.');
    run = await untilBuilt(client, submitted.id);
    expect(run.environment?.lockHash, 'The run has no lock of its environment.');
    return `run ${run.id}, Python ${run.environment.python ?? 'of the specification'}, lock ${run.environment.lockHash.slice(0, 12)}`;
  });
  await step(3, 'The run: a parent with a child for each alpha, its log live', async () => {
    await shell.type('run', 'logs', run.id, '--follow');
    run = await client.runs.get({ workspace, run: run.id });
    expect(run.state === 'completed', `The run ${run.state}: ${run.reason ?? 'no reason'}`);
    expect(run.childCount === alphas, `The run has ${run.childCount} children, not ${alphas}.`);
    return `completed, with ${run.childCount} child runs`;
  });
  await step(4, 'The best child by mse', async () => {
    const words = ['--order-by', 'metrics.mse asc', '--metrics', 'alpha', '--metrics', 'mse'];
    await shell.type('run', 'query', '--parent', run.id, ...words);
    const query = { parent: run.id, orderBy: ['metrics.mse asc'], metrics: ['alpha', 'mse'] };
    children = (await client.runs.query({ workspace, ...query })).items;
    const errors = children.map((child) => metric(child, 'mse'));
    expect(errors.length === alphas && errors.every(Number.isFinite), 'Not every child has its mse.');
    expect(
      errors.every((mse, at) => at === 0 || mse >= errors[at - 1]!),
      'The children are not sorted by mse.',
    );
    return `${children[0]!.displayName}: mse ${errors[0]!.toFixed(3)}`;
  });
  await step(5, 'Its model, registered with tags', async () => {
    first = await register(shell, children[0]!);
    expect(
      first.version === 1 && first.tags.kind === 'ridge' && first.run === children[0]!.id,
      'The model is not as registered.',
    );
    await shell.type('model', 'set-alias', 'diabetes', 'champion', '1');
    return `${first.id}, from ${first.run}`;
  });
  await step(6, 'An OCI image from the model, score.py and its dependencies, without Docker', async () => {
    await shell.type(
      'image',
      'create',
      '.',
      '--name',
      'diabetes',
      '--model',
      'diabetes:champion',
      ...scoring,
      '--tags',
      'kind=ridge',
    );
    const image = await client.images.get({ workspace, name: 'diabetes', version: '1' });
    expect(image.state === 'succeeded' && image.models[0] === 'diabetes:1' && image.digest, 'The image was not built.');
    return `${image.id} on ${image.base ?? 'its base'}, ${image.digest}`;
  });
  await step(7, "A web service on the server's host", async () => {
    await shell.type('service', 'deploy', 'diabetes', '--image', 'diabetes:1', '--target', 'host');
    const answer = JSON.parse(await shell.type('service', 'run', 'diabetes', '--data', patients)) as number[];
    firstPrediction = await ownPrediction(shell, first);
    expect(isSame(answer, firstPrediction), `The service says ${answer}, the model itself ${firstPrediction}.`);
    const service = await client.services.get({ workspace, service: 'diabetes' });
    const { primary } = await client.services.getKeys({ workspace, service: 'diabetes' });
    caller = { url: service.scoringUri, key: primary, data: patients };
    return `${service.scoringUri} predicts ${answer.map((value) => value.toFixed(2)).join(' and ')}, as the model itself does`;
  });
  await step(8, 'A second model version, rolled out with no request lost', async () => {
    const second = await register(shell, children.at(-1)!);
    expect(second.version === 2, `The second registration made version ${second.version}.`);
    await shell.type(
      'image',
      'create',
      '.',
      '--name',
      'diabetes',
      '--model',
      'diabetes:2',
      ...scoring,
      '--tags',
      'kind=ridge',
    );
    const secondPrediction = await ownPrediction(shell, second);
    expect(!isSame(firstPrediction, secondPrediction), 'Both versions predict the same: nothing could be told apart.');
    const versions = [firstPrediction, secondPrediction].map(
      (own) => (answer: unknown) => isSame(answer as number[], own),
    );
    const update = shell.type('service', 'update', 'diabetes', '--image', 'diabetes:2');
    const tally = await askWhile(caller, update, versions);
    await update;
    const answer = JSON.parse(await shell.type('service', 'run', 'diabetes', '--data', patients)) as number[];
    expect(
      isSame(answer, secondPrediction),
      `After the update the service says ${answer}, the model itself ${secondPrediction}.`,
    );
    const [old, fresh] = tally.byPrediction as [number, number];
    expect(
      tally.wrong.length === 0,
      `${tally.wrong.length} of ${tally.sent} requests were lost or wrong: ${tally.wrong[0]}`,
    );
    expect(
      old > 0 && fresh > 0,
      `The requests did not see the change: ${old} answers of the old version, ${fresh} of the new.`,
    );
    return `${tally.sent} requests meanwhile, all answered: ${old} by version 1, ${fresh} by version 2`;
  });
}

const metric = (run: Run, name: string) => Number(run.metrics?.find((summary) => summary.name === name)?.last);

async function register(shell: Shell, child: Run): Promise<Model> {
  const about = [
    '--name',
    'diabetes',
    '--framework',
    'ScikitLearn',
    '--tags',
    'kind=ridge',
    '--tags',
    `mse=${metric(child, 'mse').toFixed(3)}`,
  ];
  await shell.type('model', 'register', '--run', child.id, '--path', 'outputs/model.pkl', ...about);
  return await shell.client().models.get({ workspace, name: 'diabetes', version: 'latest' });
}

async function ownPrediction(shell: Shell, { name, version, files }: Model): Promise<number[]> {
  const file = join(shell.folder, '..', 'models', String(version), 'model.pkl');
  const which = { workspace, name, version: String(version), path: 'model.pkl' };
  await downloadTo((options) => shell.client().models.getFile(which, options), file, { digest: files?.[0]?.digest });
  return await predictionOf(file, patients);
}

/** Until the script runs: then its environment is there. */
async function untilBuilt(client: Client, id: string): Promise<Run> {
  for (;;) {
    const run = await client.runs.get({ workspace, run: id });
    expect(run.state !== 'lost', `The run is lost: ${run.reason ?? 'no reason'}`);
    if (run.state !== 'queued' && run.state !== 'preparing') return run;
    await pause(200);
  }
}

/** A demo that was interrupted has runs under way, and those outlive the server. */
async function endRuns(shell: Shell): Promise<void> {
  const client = shell.client();
  const open = async () =>
    (await client.runs.query({ workspace, pageSize: 1_000 })).items.filter(({ state }) => !endStates.includes(state));
  for (const { id } of await open()) await client.runs.cancel({ workspace, run: id });
  const until = performance.now() + 20_000;
  while ((await open()).length > 0 && performance.now() < until) await pause(100);
}

async function leaveNothing(shell: Shell, server: ServerProcess | undefined, folder: string): Promise<void> {
  shell.stop();
  // A demo that failed early may have no sign-in, no run and no service.
  await Promise.try(() => endRuns(shell)).catch(() => {});
  await Promise.try(() => shell.client().services.delete({ workspace, service: 'diabetes' })).catch(() => {});
  await server?.stop();
  const until = performance.now() + 15_000;
  for (let left = processesOf(folder); left.length > 0; left = processesOf(folder)) {
    if (performance.now() > until)
      throw new StepFailed(`Still running: ${left.map(({ pid, command }) => `${pid} ${command}`).join('; ')}`);
    await pause(100);
  }
  rmSync(folder, { recursive: true, force: true });
}

async function main(): Promise<void> {
  const begun = performance.now();
  const folder = mkdtempSync(join(tmpdir(), 'stellwerk-demo-'));
  const work = join(folder, 'diabetes');
  const configFolder = join(folder, 'config');
  cpSync(join(import.meta.dirname, '..', 'examples', 'diabetes'), work, { recursive: true });
  mkdirSync(configFolder);
  const shell = new Shell(work, configFolder);
  process.stdout.write(`The demo, in ${work} (a copy of examples/diabetes), on a fresh data folder.\n`);
  const exits = process.argv.includes('--exit');
  const toldToEnd = Promise.withResolvers<void>();
  // For good: a terminal and npm may both say it, and the tidying must not be cut short.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => toldToEnd.resolve());
  const interrupted = toldToEnd.promise.then(() => Promise.reject(new StepFailed('it was interrupted.')));
  interrupted.catch(() => {});
  let server: ServerProcess | undefined;
  try {
    server = await ServerProcess.start(join(folder, 'data'), shell.environment);
    await Promise.race([walk(shell, server), interrupted]);
    process.stdout.write(
      `\nAll steps gave the right result, in ${((performance.now() - begun) / 1_000).toFixed(1)} s.\n`,
    );
    if (!exits) await stay(shell, server, toldToEnd.promise);
  } catch (error) {
    process.exitCode = 1;
    process.stdout.write(
      `\nThe demo failed: ${error instanceof StepFailed ? error.message : (error as Error).stack}\n`,
    );
  }
  await leaveNothing(shell, server, folder);
  if (exits) process.stdout.write('Everything is stopped; no process is left.\n');
}

async function stay(shell: Shell, server: ServerProcess, toldToEnd: Promise<void>): Promise<void> {
  const { url } = await shell.client().users.createSignIn({ user: 'admin' });
  process.stdout.write(
    `\nThe server is at ${server.started.url}. Sign in with this link, which is good once:\n  ${url}\n`,
  );
  process.stdout.write('Ctrl+C stops it and removes everything the demo made.\n');
  await toldToEnd;
}

await main();
