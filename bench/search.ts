// The figure `search`: the first page of 50 of 100,000 runs, through the running server over HTTP; and MLflow's at 2,000.
import { execFileSync } from 'node:child_process';
import { constants, copyFileSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Client } from '@stellwerk/client/client.ts';
import { type Figure, percentile } from './figure.ts';
import { environment, Peer } from './peer.ts';
import { Product, workspace } from './product.ts';
import { cachedFile, runDatabase, runLines } from './run-data.ts';
import { type Asked, comparable, queries } from './search-queries.ts';

export const names = ['search', 'search-2000', 'search-median', 'search-slowest', 'search-last-page'];
const pageSize = 50;
const many = 100_000;
const some = 2_000;

interface Timed {
  asked: Asked;
  ms: number;
}

export async function* measure(): AsyncIterable<Figure> {
  const { firsts, lasts } = await withRuns(many, async (client) => ({
    firsts: await timed(queries(), (one) => client.runs.query({ workspace, pageSize, ...inputOf(one) })),
    lasts: await lastPages(client),
  }));
  if (process.env.BENCH_DETAILS) for (const one of [...firsts, ...lasts]) tell(one);
  const ours = p95(
    await withRuns(some, (client) =>
      timed(comparable(), (one) => client.runs.query({ workspace, pageSize, ...inputOf(one) })),
    ),
  );
  const peer = p95(await peerTimes());
  yield { name: 'search', ours: p95(firsts), peer, unit: 'ms', ratio: peer / ours };
  yield { name: 'search-2000', ours, peer, unit: 'ms' };
  yield {
    name: 'search-median',
    ours: percentile(
      firsts.map(({ ms }) => ms),
      0.5,
    ),
    peer: null,
    unit: 'ms',
  };
  yield {
    name: 'search-slowest',
    ours: percentile(
      firsts.map(({ ms }) => ms),
      1,
    ),
    peer: null,
    unit: 'ms',
  };
  yield { name: 'search-last-page', ours: p95(lasts), peer: null, unit: 'ms' };
}

const p95 = (times: readonly Timed[]) =>
  percentile(
    times.map(({ ms }) => ms),
    0.95,
  );

function tell({ asked, ms }: Timed): void {
  const { name, experiment = '', filter = '', orderBy = ['newest'] } = asked;
  process.stderr.write(`${ms.toFixed(1).padStart(8)} ms  ${name}: ${experiment} ${filter} by ${orderBy.join()}\n`);
}

const inputOf = ({ filter, orderBy, experiment }: Asked) => ({
  ...(filter !== undefined && { filter }),
  ...(orderBy && { orderBy }),
  ...(experiment !== undefined && { experiment }),
});

/** Each query once unmeasured, as neither side is to be asked for the first time; then the middle of three. */
async function timed<T extends Asked>(all: readonly T[], act: (one: T) => Promise<unknown>): Promise<Timed[]> {
  const times: Timed[] = [];
  for (const asked of all) {
    await act(asked);
    const rounds: number[] = [];
    for (let round = 0; round < 3; round++) {
      const begun = performance.now();
      await act(asked);
      rounds.push(performance.now() - begun);
    }
    times.push({ asked, ms: percentile(rounds, 0.5) });
  }
  return times;
}

async function lastPages(client: Client): Promise<Timed[]> {
  const found: (Asked & { page: string })[] = [];
  for (const filter of [undefined, "tags.half = 'a'", 'metrics.loss < 0.5', "tags.rare = 'yes'"])
    for (const order of ['createdAt desc', 'metrics.loss asc', 'tags.owner asc', 'metrics."metric/7" asc']) {
      const asked = { name: 'last page', orderBy: [order], ...(filter !== undefined && { filter }) };
      const page = await lastPageOf(client, asked);
      if (page !== undefined) found.push({ ...asked, page });
    }
  return timed(found, ({ page, ...one }) => client.runs.query({ workspace, pageSize, page, ...inputOf(one) }));
}

/** As one finds it who pages to the end: in great steps first, then in small ones from where the last great one began. */
async function lastPageOf(client: Client, asked: Asked): Promise<string | undefined> {
  let page: string | undefined;
  for (const size of [1_000, pageSize])
    for (;;) {
      const input = {
        workspace,
        columns: ['id'],
        pageSize: size,
        ...inputOf(asked),
        ...(page !== undefined && { page }),
      };
      const { nextPage } = await client.runs.query(input);
      if (nextPage === undefined) break;
      page = nextPage;
    }
  return page;
}

async function withRuns<T>(runs: number, act: (client: Client) => Promise<T>): Promise<T> {
  const made = await runDatabase(runs);
  await using product = await Product.start(async (data) => {
    mkdirSync(data, { recursive: true, mode: 0o700 });
    copyFileSync(made, join(data, 'stellwerk.db'), constants.COPYFILE_FICLONE);
  });
  return await act(product.client);
}

async function peerTimes(): Promise<Timed[]> {
  const python = join(environment(), 'bin', 'python');
  const version = execFileSync(python, ['-c', 'import mlflow; print(mlflow.__version__)'], { encoding: 'utf8' }).trim();
  const made = await cachedFile(`mlflow-${some}`, [version, some], (file) => {
    const input = runLines(some);
    execFileSync(python, [join(import.meta.dirname, 'mlflow_runs.py'), file, `${file}-artifacts`], {
      input,
      stdio: ['pipe', 'ignore', 'inherit'],
    });
    rmSync(`${file}-artifacts`, { recursive: true, force: true });
  });
  await using peer = await Peer.start((folder) => copyFileSync(made, join(folder, 'mlflow.db')));
  const { experiments } = await peer.call<{ experiments: { experiment_id: string; name: string }[] }>(
    'experiments/search',
    { max_results: 10 },
  );
  const id = experiments.find(({ name }) => name === 'bench')!.experiment_id;
  const search = (one: Asked) =>
    peer.call('runs/search', { experiment_ids: [id], max_results: pageSize, ...one.mlflow });
  // It closes connections while they are being used again.
  return await timed(comparable(), (one) => search(one).catch(() => search(one)));
}
