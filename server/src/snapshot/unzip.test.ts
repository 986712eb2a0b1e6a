import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { crc32, deflateRawSync } from 'node:zlib';
import { damaged, valueOrRefusal } from '@stellwerk/contract/mutated.fixture.ts';
import type { SnapshotFile } from '@stellwerk/contract/snapshot.ts';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { ZipFile } from 'yazl';
import { unzip } from './unzip.ts';

const folder = mkdtempSync(join(tmpdir(), 'unzip-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const archive = join(folder, 'it.zip');

const contents: Record<string, Buffer> = {
  'train.py': Buffer.from('print("hello")\n'.repeat(40)),
  'data/ä b.csv': Buffer.from('1,2,3\n'.repeat(3_000)),
  'data/empty': Buffer.alloc(0),
  // Too large to be inflated at once.
  'data/large': Buffer.alloc(400_000, 'stellwerk '),
};
const hostileNames = [
  '../train.py',
  '/etc/passwd',
  'data/../train.py',
  'C:/train.py',
  'data\\large',
  'train.py\0.txt',
  '',
  '.',
];
const listing = Object.entries(contents).map(([path, content]) => listed(path, content));

function listed(path: string, content: Uint8Array): SnapshotFile {
  const digest = `sha256:${createHash('sha256').update(content).digest('hex')}`;
  return { path, sizeBytes: content.length, digest, executable: false };
}

/** What is stored, by its path; like the server does, content that has not the listing's digest is refused. */
async function unzipped(bytes: Uint8Array, files: readonly SnapshotFile[]): Promise<Map<string, number>> {
  writeFileSync(archive, bytes);
  const stored = new Map<string, number>();
  await unzip(archive, files, async (file, content) => {
    let sizeBytes = 0;
    const hash = createHash('sha256');
    for await (const chunk of content) {
      hash.update(chunk);
      sizeBytes += chunk.length;
      expect(sizeBytes, 'no more than was announced').toBeLessThanOrEqual(file.sizeBytes + 1);
    }
    expect(files, 'nothing but what was announced').toContain(file);
    expect(stored.has(file.path), 'nothing twice').toBe(false);
    if (`sha256:${hash.digest('hex')}` === file.digest) stored.set(file.path, sizeBytes);
  });
  return stored;
}

async function zipped(compress: boolean): Promise<Buffer> {
  const zip = new ZipFile();
  for (const [path, content] of Object.entries(contents)) zip.addBuffer(content, path, { compress });
  zip.end();
  return await buffer(zip.outputStream);
}

interface Entry {
  name: string | Buffer;
  content: Buffer;
  /** What it says of itself, where that is not the truth. */
  sizeBytes?: number;
  compressedBytes?: number;
  method?: number;
  flags?: number;
  attributes?: number;
  offset?: number;
}

/** An archive as an attacker would write it: nothing is checked here. */
function rawZip(
  entries: readonly Entry[],
  says: { entries?: number; listAt?: number; listBytes?: number } = {},
): Buffer {
  const parts: Buffer[] = [];
  const list: Buffer[] = [];
  let at = 0;
  for (const { name, content, method = 8, flags = 0x800, attributes = 0, ...claimed } of entries) {
    const path = Buffer.from(name);
    const packed = method === 8 ? deflateRawSync(content) : content;
    const sizes = Buffer.alloc(12);
    sizes.writeUInt32LE(crc32(content), 0);
    sizes.writeUInt32LE(claimed.compressedBytes ?? packed.length, 4);
    sizes.writeUInt32LE(claimed.sizeBytes ?? content.length, 8);
    const common = Buffer.alloc(10);
    common.writeUInt16LE(20, 0);
    common.writeUInt16LE(flags, 2);
    common.writeUInt16LE(method, 4);
    const local = Buffer.concat([Buffer.from('PK\x03\x04'), common, sizes, Buffer.alloc(4), path, packed]);
    local.writeUInt16LE(path.length, 26);
    const central = Buffer.concat([Buffer.from('PK\x01\x02\x14\x03'), common, sizes, Buffer.alloc(18), path]);
    central.writeUInt16LE(path.length, 28);
    central.writeUInt32LE(attributes >>> 0, 38);
    central.writeUInt32LE(claimed.offset ?? at, 42);
    parts.push(local);
    list.push(central);
    at += local.length;
  }
  const all = Buffer.concat(list);
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06', 'latin1');
  end.writeUInt16LE(says.entries ?? entries.length, 8);
  end.writeUInt16LE(says.entries ?? entries.length, 10);
  end.writeUInt32LE(says.listBytes ?? all.length, 12);
  end.writeUInt32LE(says.listAt ?? at, 16);
  return Buffer.concat([...parts, all, end]);
}

describe('an archive', () => {
  it('gives every file of its listing, packed or not, and folders nothing', async () => {
    const sizes = new Map(listing.map(({ path, sizeBytes }) => [path, sizeBytes]));
    for (const compress of [true, false]) expect(await unzipped(await zipped(compress), listing)).toEqual(sizes);
    const own = Object.entries(contents).map(([name, content]) => ({ name, content }));
    expect(await unzipped(rawZip([{ name: 'data/', content: Buffer.alloc(0) }, ...own]), listing)).toEqual(sizes);
  });

  it.each([true, false])(
    'whatever became of its bytes (packed: %s), gives what was announced or is refused',
    async (compress) => {
      const sample = await zipped(compress);
      // Most of its meaning is in the list at its end.
      const list = sample.subarray(sample.indexOf('PK\x01\x02', 0, 'latin1'));
      const ofList = damaged(list).map((end) => Buffer.concat([sample.subarray(0, sample.length - list.length), end]));
      await fc.assert(
        fc.asyncProperty(fc.oneof(ofList, damaged(sample)), async (bytes) => {
          for (const [path, sizeBytes] of (await valueOrRefusal(() => unzipped(bytes, listing))) ?? [])
            expect(contents[path]).toHaveLength(sizeBytes);
        }),
        { numRuns: 500 },
      );
    },
  );

  it('whatever it says of itself, gives what was announced or is refused', async () => {
    const number = fc.oneof(fc.constantFrom(0, 1, 0xffff, 0x7fffffff, 0xfffffffe, 0xffffffff), fc.nat(2_000));
    const entry: fc.Arbitrary<Entry> = fc.record(
      {
        name: fc.constantFrom(...Object.keys(contents), ...hostileNames),
        content: fc.constantFrom(...Object.values(contents), Buffer.alloc(2_000_000)),
        sizeBytes: number,
        compressedBytes: number,
        method: fc.constantFrom(0, 8, 8, 9, 14, 99),
        flags: fc.constantFrom(0, 1, 8, 0x40, 0x800, 0x2000, 0xffff),
        attributes: fc.constantFrom(0, 0o100644 << 16, 0o120777 << 16, 0o010644 << 16, 0o040755 << 16),
        offset: number,
      },
      { requiredKeys: ['name', 'content'] },
    );
    const says = fc.record(
      { entries: fc.constantFrom(0, 1, 5, 65_534, 65_535), listAt: number, listBytes: number },
      { requiredKeys: [] },
    );
    await fc.assert(
      fc.asyncProperty(fc.array(entry, { maxLength: 5 }), fc.oneof(fc.constant({}), says), async (entries, lies) => {
        const stored = await valueOrRefusal(() => unzipped(rawZip(entries, lies), listing));
        for (const [path, sizeBytes] of stored ?? []) expect(contents[path]).toHaveLength(sizeBytes);
      }),
      { numRuns: 1_000 },
    );
  });

  it.each(hostileNames)('with a file named %j is refused', async (name) => {
    await expect(unzipped(rawZip([{ name, content: contents['train.py']! }]), listing)).rejects.toMatchObject({
      reason: 'archive.invalid',
    });
    expect(readdirSync(folder)).toEqual(['it.zip']);
  });

  it('that brings a file twice, or one of another size, or a link, is refused', async () => {
    const [name, content] = ['train.py', contents['train.py']!] as const;
    const link = (0o120777 << 16) >>> 0;
    for (const [entries, why] of [
      [
        [
          { name, content },
          { name, content },
        ],
        'is there twice',
      ],
      [[{ name, content: content.subarray(1) }], 'where the listing says'],
      [[{ name, content: Buffer.concat([content, content]), sizeBytes: content.length }], 'archive cannot be used'],
      [[{ name, content: content.subarray(1), sizeBytes: content.length }], 'archive cannot be used'],
      [[{ name, content, attributes: link }], 'is not a plain file'],
      [[{ name, content, flags: 0x801 }], 'is encrypted'],
    ] as const)
      await expect(unzipped(rawZip(entries), listing), why).rejects.toThrow(why);
  });

  it('that has many more entries than were announced is refused before they are read', async () => {
    const folders = Array.from({ length: 20_000 }, (_, at) => ({ name: `${at}/`, content: Buffer.alloc(0) }));
    await expect(unzipped(rawZip(folders), listing)).rejects.toThrow('it has 20000 entries');
  });

  it.each([
    ['at once', 10, 100, 'larger than 11 bytes'],
    ['as it comes', 1_000_000, 300, 'too many bytes'],
  ] as const)(
    'unpacked %s, that unpacks to more than it announces is stopped there',
    async (_, sizeBytes, mib, why) => {
      const bomb = Buffer.alloc(mib * 1024 * 1024);
      const small = listed('bomb', Buffer.alloc(sizeBytes));
      const before = process.memoryUsage().arrayBuffers;
      await expect(unzipped(rawZip([{ name: 'bomb', content: bomb, sizeBytes }]), [small])).rejects.toMatchObject({
        reason: 'archive.invalid',
        message: expect.stringContaining(why),
      });
      expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(100 * 1024 * 1024);
    },
  );
});
