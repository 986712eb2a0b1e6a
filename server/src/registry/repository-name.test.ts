import { describe, expect, it } from 'vitest';
import { imageOf, locationOf, repositoryOf } from './repository-name.ts';
import { repositoryOfMade } from './run-pulls.ts';

/** As the distribution specification has it. */
const allowed = /^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*$/;
const images = [
  'a',
  'diabetes-2',
  'a.b_c',
  'My Model',
  'A',
  'a',
  'x--61',
  'x---41',
  'ä',
  '日本',
  '-',
  '_a',
  'a-',
  'a--b',
  '..a',
  '😀x',
  'A-',
  '1 2',
];

describe('the name that an image is pulled by', () => {
  it('is its own where that is allowed', () => {
    for (const image of ['a', 'diabetes-2', 'a.b_c', '3x']) expect(repositoryOf(image)).toBe(image);
  });

  it('is one that container programs take, and no two images share one', () => {
    for (const image of images) expect(repositoryOf(image)).toMatch(allowed);
    expect(new Set(images.map(repositoryOf)).size).toBe(new Set(images).size);
  });

  it('can be read back', () => {
    for (const image of images) expect(imageOf(repositoryOf(image))).toBe(image);
  });

  it('is nothing where no image could have it', () => {
    for (const name of [
      '',
      'A',
      '..',
      'a--b',
      'x--',
      'x--a',
      'x---',
      'x---4',
      'x---61',
      'x---zz-',
      'x---ff',
      'a/b',
      'x---2F-',
      repositoryOfMade(`sha256:${'0'.repeat(64)}`),
    ])
      expect([name, imageOf(name)]).toEqual([name, undefined]);
  });
});

it('a location that no container program would take is none', () => {
  expect(locationOf('ml.example.org:8470', 'Team', 'diabetes', 3)).toBe('ml.example.org:8470/team/diabetes:3');
  expect(locationOf('ml.example.org', 'team', 'Ä'.repeat(200), 1)).toBeUndefined();
});
