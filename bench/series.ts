// One series of 1,000,000 points as 1,000 buckets that keep minima and maxima: what a chart asks for.
import { type Figure, median, timesOf } from './figure.ts';
import { Product, workspace } from './product.ts';

export const names = ['series'];
const points = 1_000_000;
const perPart = 50_000;

export async function* measure(): AsyncIterable<Figure> {
  await using product = await Product.start();
  const { client } = product;
  const { id: run } = await client.runs.start({ workspace, experiment: 'series' });
  let offset = 0;
  for (let first = 0; first < points; first += perPart) {
    const now = Date.now() / 1_000;
    const line = (_: unknown, at: number) => `["m","loss",${Math.sin((first + at) / 1e4)},${first + at},${now}]\n`;
    const body = Buffer.from(Array.from({ length: perPart }, line).join(''));
    await client.journals.append({ workspace, run, journal: 'main', offset }, body);
    offset += body.length;
  }
  const times = await timesOf(21, async () => {
    const { buckets } = await client.metrics.getSeries({ workspace, run, name: 'loss', buckets: 1_000 });
    if (buckets?.length !== 1_000) throw new Error(`There are ${buckets?.length} buckets.`);
  });
  yield { name: 'series', ours: median(times), peer: null, unit: 'ms' };
}
