// Points per second that are acknowledged as durable, in batches of 1,000, by one client on one connection: a journal here, `log-batch` there.
import type { Figure } from './figure.ts';
import { Peer } from './peer.ts';
import { Product, workspace } from './product.ts';

export const names = ['ingest'];
const batch = 1_000;

export async function* measure(): AsyncIterable<Figure> {
  yield { name: 'ingest', ours: await ours(1_000), peer: await peers(30), unit: 'points/s' };
}

async function ours(batches: number): Promise<number> {
  await using product = await Product.start();
  const { client } = product;
  const run = await client.runs.start({ workspace, experiment: 'ingest' });
  let offset = 0;
  const bodies = Array.from({ length: batches }, (_, at) => Buffer.from(linesOf(at * batch)));
  const begun = performance.now();
  for (const body of bodies) {
    const answer = await client.journals.append({ workspace, run: run.id, journal: 'main', offset }, body);
    offset += body.length;
    if (answer.offset !== offset) throw new Error(`Only ${answer.offset} bytes of ${offset} are durable.`);
  }
  const rate = (batches * batch) / ((performance.now() - begun) / 1_000);
  const { summary } = await client.metrics.getSeries({ workspace, run: run.id, name: 'loss', limit: 1 });
  if (summary.count !== batches * batch) throw new Error(`The series has ${summary.count} points.`);
  return rate;
}

function linesOf(first: number): string {
  const now = Date.now() / 1_000;
  let lines = '';
  for (let step = first; step < first + batch; step++) lines += `["m","loss",${1 / (step + 1)},${step},${now}]\n`;
  return lines;
}

async function peers(batches: number): Promise<number> {
  await using peer = await Peer.start();
  const run = await peer.createRun(await peer.createExperiment('ingest'));
  const timestamp = Date.now();
  const begun = performance.now();
  for (let at = 0; at < batches; at++) {
    const metrics = Array.from({ length: batch }, (_, i) => {
      const step = at * batch + i;
      return { key: 'loss', value: 1 / (step + 1), timestamp, step };
    });
    await peer.call('runs/log-batch', { run_id: run, metrics });
  }
  return (batches * batch) / ((performance.now() - begun) / 1_000);
}
