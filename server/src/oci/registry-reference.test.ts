import { expect, test } from 'vitest';
import { isRegistry, placesOf } from './registry-reference.ts';

test.each([
  ['registry.example.org/team/app:1.2', 'registry.example.org', 'team/app', '1.2'],
  ['registry.example.org:5000/app', 'registry.example.org:5000', 'app', 'latest'],
  ['localhost/app', 'localhost', 'app', 'latest'],
  [`registry.example.org/app:1@sha256:${'a'.repeat(64)}`, 'registry.example.org', 'app', `sha256:${'a'.repeat(64)}`],
])('%s is understood', (text, registry, repository, manifest) => {
  expect(placesOf(text, ['set.example.org'])).toEqual([{ registry, repository, manifest }]);
});

test('a reference without a host means each registry that is set, and below library as well if it has one part', () => {
  const places = (text: string, ...registries: string[]) =>
    placesOf(text, registries).map(({ registry, repository, manifest }) => `${registry}/${repository} ${manifest}`);
  expect(places('python:3.11-slim', 'a.example.org', 'b.example.org:5000/mirror')).toEqual([
    'a.example.org/python 3.11-slim',
    'a.example.org/library/python 3.11-slim',
    'b.example.org:5000/mirror/python 3.11-slim',
    'b.example.org:5000/mirror/library/python 3.11-slim',
  ]);
  expect(places('team/app', 'a.example.org')).toEqual(['a.example.org/team/app latest']);
  expect(places('python')).toEqual([]);
});

test.each([
  '',
  'Upper/case',
  'a b',
  'a:b:c',
  'http://x/y',
  'x.org/../y',
  'x.org/a?b',
  'x.org/a\r\nb',
  'user:pw@x.org/a',
  'x.org:99999999/a',
  'x.org:99999/a',
  'a@sha256:00',
  'x.org/a#b',
  'a%2fb',
  `${'a.'.repeat(130)}org/a`,
])('the reference %j is refused', (text) => {
  for (const registries of [[], ['set.example.org']])
    expect(() => placesOf(text, registries)).toThrow(/no reference to an image/);
});

test.each(['registry.example.org', 'localhost:5000', '[::1]:5000', 'registry.example.org/mirror/of'])(
  '%s is a registry',
  (text) => expect(isRegistry(text)).toBe(true),
);

test.each(['', 'https://x.org', 'x.org/', 'x.org/A', 'x.org/a:1', 'user@x.org', 'x.org:99999', 'x.org/a?b'])(
  '%j is none',
  (text) => expect(isRegistry(text)).toBe(false),
);
