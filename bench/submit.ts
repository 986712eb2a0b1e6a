// From the SDK's call in a warm interpreter to the first line of the script: a directory of 10 files that have all changed, its environment made before.
import { type Figure, median } from './figure.ts';
import { Product } from './product.ts';
import { answerOf } from './python.ts';

export const names = ['submit', 'submit-local'];
const rounds = 15;

export async function* measure(): AsyncIterable<Figure> {
  await using product = await Product.start();
  for (const [name, target] of [
    ['submit', 'host'],
    ['submit-local', 'local'],
  ] as const) {
    const times = await answerOf<number[]>('submit.py', [target, `${rounds}`], product.environment);
    yield { name, ours: median(times), peer: null, unit: 'ms' };
  }
}
