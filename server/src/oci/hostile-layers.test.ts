import { existsSync, lstatSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { damaged, mutated, valueOrRefusal } from '@stellwerk/contract/mutated.fixture.ts';
import fc from 'fast-check';
import { afterAll, expect, test } from 'vitest';
import { collect, type RawMember, rawTar } from './hostile-tar.ts';
import { blockBytes } from './tar-header.ts';
import { paxRecords } from './tar-parse.ts';
import { tarMembers } from './tar-read.ts';
import { unpackLayers } from './unpack.ts';

const folder = mkdtempSync(join(tmpdir(), 'oci-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const secret = join(folder, 'secret');
writeFileSync(secret, 'secret');

const lower = rawTar(
  { name: 'd/', type: '5', mode: 0o755 },
  { name: 'd/file', content: 'lower' },
  { name: 'out', type: '2', link: '../../secret' },
  { name: 'up', type: '2', link: '../..' },
  { name: 'd/hard', type: '1', link: 'd/file' },
);
const upper: RawMember[] = [
  { name: 'd/.wh.file' },
  { name: 'pax', type: 'x', content: '15 path=d/long\n11 size=12\n' },
  { name: 'cut', content: 'hello world\n' },
  { name: '././@LongLink', type: 'L', content: 'd/deep/name\0' },
  { name: 'cut', content: 'x'.repeat(600) },
  { name: 'out', type: '1', link: 'd/hard' },
  { name: 'up/secret', content: 'changed' },
  { name: 'd/.wh..wh..opq' },
];

/** With sums that are right again: else nearly nothing of what is damaged would be read any further. */
function summed(tar: Buffer): Buffer {
  for (let at = 0; at + blockBytes <= tar.length; at += blockBytes) {
    const block = tar.subarray(at, at + blockBytes);
    if (block.toString('latin1', 257, 262) !== 'ustar') continue;
    block.fill(0x20, 148, 156);
    const sum = block.reduce((all, byte) => all + byte, 0);
    block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  }
  return tar;
}

const layers = damaged(rawTar(...upper)).map((tar) => summed(Buffer.from(tar)));
const names = mutated('d/file', '.wh.d', 'd/.wh..wh..opq', 'up/../secret', './d//x').map((name) =>
  name.slice(0, 2_000),
);
const member: fc.Arbitrary<RawMember> = fc.record(
  {
    name: names,
    type: fc.constantFrom('0', '1', '2', '3', '5', '6', '7', 'x', 'g', 'L', 'K', 'S', '\0'),
    content: fc.oneof(names, mutated('15 path=d/long\n12 size=100\n', '20 linkpath=../../x\n')),
    link: names,
    mode: fc.nat(0o7777),
    size: fc.constantFrom('00000000000\0', '77777777777\0', '\xff'.repeat(12), '\x80'.padEnd(12, '\0'), '            '),
  },
  { requiredKeys: ['name', 'type'] },
);
const written = fc.array(member, { minLength: 1, maxLength: 6 }).map((members) => rawTar(...members));

test('a layer, whatever became of it, has members inside of it or is refused', async () => {
  const file = join(folder, 'layer.tar');
  await fc.assert(
    fc.asyncProperty(fc.oneof(layers, written), async (tar) => {
      writeFileSync(file, tar);
      for (const { path, offset, sizeBytes } of (await valueOrRefusal(() => collect(tarMembers(file)))) ?? []) {
        expect(offset + sizeBytes).toBeLessThanOrEqual(tar.length);
        expect(path.startsWith('/') || path.split('/').includes('..'), path).toBe(false);
      }
    }),
    { numRuns: 1_500 },
  );
});

test('attributes, whatever became of them, are read or refused', async () => {
  const sound = '15 path=d/long\n12 size=100\n20 linkpath=../../x\n';
  await fc.assert(
    fc.asyncProperty(
      fc.oneof(
        mutated(sound).map((text) => Buffer.from(text)),
        damaged(Buffer.from(sound)),
      ),
      async (bytes) => {
        for (const value of Object.values((await valueOrRefusal(() => paxRecords(bytes))) ?? {}))
          expect(value).toBeTypeOf('string');
      },
    ),
    { numRuns: 1_500 },
  );
});

test('a layer, whatever became of it, is unpacked into its root or refused, and touches nothing else', async () => {
  const outcomes = new Set<boolean>();
  await fc.assert(
    fc.asyncProperty(fc.oneof(layers, written), async (tar) => {
      const place = await mkdtemp(join(folder, 'place-'));
      const root = join(place, 'root');
      await mkdir(root);
      writeFileSync(join(place, '0.tar'), lower);
      writeFileSync(join(place, '1.tar'), tar);
      const stack = [0, 1].map((at) => ({ name: `layer-${at}`, tar: join(place, `${at}.tar`) }));
      const options = { layersDir: join(place, 'layers'), sizeLimitBytes: 10_000_000 };
      const tree = await valueOrRefusal(() => unpackLayers(stack, root, options));
      expect(readFileSync(secret, 'utf8')).toBe('secret');
      expect(readdirSync(folder).filter((name) => !/^(place-.*|secret|layer\.tar)$/.test(name))).toEqual([]);
      expect(readdirSync(place).filter((name) => !/^(root|layers|[01]\.tar)$/.test(name))).toEqual([]);
      outcomes.add(tree !== undefined);
      if (tree) onlyPlain(root);
      if (existsSync(options.layersDir))
        expect(readdirSync(options.layersDir).filter((name) => name.startsWith('.'))).toEqual([]);
      await rm(place, { recursive: true, force: true });
    }),
    { numRuns: 300 },
  );
  expect(outcomes.size, 'some are unpacked, some refused').toBe(2);
});

/** Files, folders and symbolic links that nobody follows. */
function onlyPlain(dir: string): void {
  for (const name of readdirSync(dir)) {
    const path = join(dir, name);
    const found = lstatSync(path);
    expect(found.isFile() || found.isDirectory() || found.isSymbolicLink(), path).toBe(true);
    if (found.isDirectory()) onlyPlain(path);
    if (found.isFile()) expect(readFileSync(path, 'utf8')).not.toBe('secret');
  }
}
