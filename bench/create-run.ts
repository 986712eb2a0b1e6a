// Runs per second that 20 clients create at once, each answered when it is durable.
import type { Figure } from './figure.ts';
import { Peer } from './peer.ts';
import { Product, workspace } from './product.ts';

export const names = ['create-run'];
const clients = 20;

export async function* measure(): AsyncIterable<Figure> {
  yield { name: 'create-run', ours: await ours(), peer: await peers(), unit: 'runs/s' };
}

async function ours(): Promise<number> {
  await using product = await Product.start();
  const { client } = product;
  const create = (number: number) =>
    client.runs.start({ workspace, experiment: 'created', displayName: `run ${number}`, tags: { kind: 'bench' } });
  await rateOf(500, create);
  return await rateOf(8_000, create); // before the product is stopped
}

async function peers(): Promise<number> {
  await using peer = await Peer.start();
  const experiment = await peer.createExperiment('created');
  return await rateOf(200, (number) => peer.createRun(experiment, `run ${number}`));
}

async function rateOf(count: number, create: (number: number) => Promise<unknown>): Promise<number> {
  let next = 0;
  const work = async () => {
    while (next < count) await create(next++);
  };
  const begun = performance.now();
  await Promise.all(Array.from({ length: clients }, work));
  return count / ((performance.now() - begun) / 1_000);
}
