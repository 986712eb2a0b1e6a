// An unchanged directory of 10,000 files: from the SDK's call until the run is accepted.
import { type Figure, median } from './figure.ts';
import { Product } from './product.ts';
import { answerOf } from './python.ts';

export const names = ['resubmit'];

export async function* measure(): AsyncIterable<Figure> {
  await using product = await Product.start();
  const times = await answerOf<number[]>('resubmit.py', ['9'], product.environment);
  yield { name: 'resubmit', ours: median(times), peer: null, unit: 'ms' };
}
