import { test } from 'vitest';
import { dieAtEachPoint, longMs } from './stories.ts';

test('an image is built whole and once, wherever the server dies', () => dieAtEachPoint('image.build'), longMs);

test(
  'garbage is collected, and nothing else, wherever the server dies',
  () => dieAtEachPoint('server.collect'),
  longMs,
);
