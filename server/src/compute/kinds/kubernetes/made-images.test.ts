import { runConfiguration } from '@stellwerk/contract/run-configuration.ts';
import { expect, test } from 'vitest';
import { flawsOfMade } from './made-images.ts';
import type { Settings } from './manifest.ts';

const settings = (reach: Settings['reach']) => ({ reach }) as Settings;
const asks = (environment: 'in-image' | 'at-start') =>
  runConfiguration.parse({ script: 'a.py', container: { environment } });
const whyNot = (reach: Settings['reach'], url: string) => flawsOfMade(settings(reach), asks('in-image'), url)[0]?.why;

test('images that are made here are for clusters whose nodes reach this server; others are told what to do', () => {
  expect(whyNot('direct', 'https://ml.example.org')).toBeUndefined();
  expect(whyNot('direct', 'http://10.0.0.7:8470')).toBeUndefined();
  expect(whyNot('carried', 'https://ml.example.org')).toMatch(/do not reach: let it have reach `direct`.*at-start/);
  for (const host of ['127.0.0.1', '127.1.2.3', 'localhost', '[::1]', '0.0.0.0'])
    expect(whyNot('direct', `http://${host}:8470`)).toMatch(/--public-url, or let the environment be made at-start/);
  expect(whyNot('direct', 'https://example.org/ml')).toContain('the path /ml');
});

test('what is made at the start is not asked for here', () => {
  expect(flawsOfMade(settings('carried'), asks('at-start'), 'http://127.0.0.1:8470')).toEqual([]);
  expect(flawsOfMade(settings('carried'), runConfiguration.parse({ script: 'a.py' }), 'http://127.0.0.1')).toEqual([]);
});
