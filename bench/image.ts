// From the SDK's call to the registered image: with a changed `score.py`, and with a changed model of 50 MB that is uploaded and registered first.
import { type Figure, median } from './figure.ts';
import { Product } from './product.ts';
import { answerOf } from './python.ts';

export const names = ['image-score', 'image-model', 'image-model-build'];

export async function* measure(): AsyncIterable<Figure> {
  await using product = await Product.start();
  const times = await answerOf<{ score: number[]; model: number[]; build: number[] }>(
    'image.py',
    ['11'],
    product.environment,
  );
  yield { name: 'image-score', ours: median(times.score), peer: null, unit: 'ms' };
  yield { name: 'image-model', ours: median(times.model), peer: null, unit: 'ms' };
  yield { name: 'image-model-build', ours: median(times.build), peer: null, unit: 'ms' };
}
