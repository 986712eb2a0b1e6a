// What every kind of datastore must pass.
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Content, DatastoreDriver } from './driver.ts';

export interface Tried {
  driver: DatastoreDriver;
  end(): Promise<void>;
}

const contentOf = (value: string): Content => ({
  sizeBytes: Buffer.byteLength(value),
  async *open() {
    yield Buffer.from(value);
  },
});

export function driverSuite(name: string, start: () => Promise<Tried>): void {
  describe(`a ${name} datastore`, () => {
    let tried: Tried;
    let driver: DatastoreDriver;
    beforeEach(async () => {
      tried = await start();
      driver = tried.driver;
    });
    afterEach(() => tried.end());

    const write = (path: string, value = path, overwrite = false) => driver.write(path, contentOf(value), overwrite);
    const paths = async (prefix = '', after = '') => {
      const found: string[] = [];
      for await (const file of driver.list(prefix, after)) found.push(file.path);
      return found;
    };
    const read = async (path: string, range?: { start: number; end: number }) => {
      const file = await driver.open(path);
      return file && text(file.read(range ?? { start: 0, end: file.sizeBytes }));
    };

    test('is empty at first', async () => {
      expect(await paths()).toEqual([]);
      expect(await driver.open('a')).toBeUndefined();
      expect(await driver.delete('a')).toBe(0);
    });

    test('gives what was written, whole and in part', async () => {
      const written = await write('data/träin set.csv', 'a,b\n1,2\n');
      expect(written).toMatchObject({ path: 'data/träin set.csv', sizeBytes: 8 });
      expect(await read('data/träin set.csv')).toBe('a,b\n1,2\n');
      expect(await read('data/träin set.csv', { start: 2, end: 5 })).toBe('b\n1');
    });

    test('takes line breaks and other control characters in names', async () => {
      const odd = ['a\r\nb/c\n', 'a\r\nb/\u001b[2J\t\u0085', '\n'];
      for (const path of odd) await write(path, `content of ${JSON.stringify(path)}`);
      expect((await paths()).toSorted()).toEqual(odd.toSorted());
      expect((await paths('a\r\nb')).length).toBe(2);
      for (const path of odd) expect(await read(path)).toBe(`content of ${JSON.stringify(path)}`);
      for (const path of odd) expect(await driver.delete(path)).toBe(1);
      expect(await paths()).toEqual([]);
    });

    test('keeps empty files', async () => {
      await write('empty', '');
      expect(await paths()).toEqual(['empty']);
      const file = await driver.open('empty');
      expect(file?.sizeBytes).toBe(0);
      await file?.close();
    });

    test('overwrites only when told to', async () => {
      await write('a', 'one');
      const etag = async () => {
        const file = await driver.open('a');
        await file?.close();
        return file?.etag;
      };
      const before = await etag();
      expect(await write('a', 'two')).toBe('taken');
      expect(await read('a')).toBe('one');
      expect(await etag()).toBe(before);
      expect(await write('a', 'two', true)).toMatchObject({ sizeBytes: 3 });
      expect(await read('a')).toBe('two');
      expect(await etag()).not.toBe(before);
    });

    test('lists in the order of paths, below a prefix, and after a path', async () => {
      const all = ['B', 'a-b/c', 'a.txt', 'a/b', 'a/b.c/d', 'a/bc', 'ab', 'é/x'];
      for (const path of all.toReversed()) await write(path);
      expect(await paths()).toEqual(all);
      expect(await paths('a')).toEqual(['a/b', 'a/b.c/d', 'a/bc']);
      expect(await paths('a/b')).toEqual(['a/b']);
      expect(await paths('none')).toEqual([]);
      for (const [i, path] of all.entries()) expect(await paths('', path)).toEqual(all.slice(i + 1));
      expect(await paths('', 'a/b.c')).toEqual(all.slice(4));
      expect(await paths('a', 'a/b')).toEqual(['a/b.c/d', 'a/bc']);
      expect(await paths('a/b', 'a/b')).toEqual([]);
    });

    test('deletes a file, and a folder with everything below it', async () => {
      for (const path of ['a/b/c', 'a/b/d/e', 'a/f', 'g']) await write(path);
      expect(await driver.delete('a/b')).toBe(2);
      expect(await paths()).toEqual(['a/f', 'g']);
      expect(await driver.delete('a/f')).toBe(1);
      expect(await driver.delete('a')).toBe(0);
      expect(await driver.delete('g')).toBe(1);
      expect(await paths()).toEqual([]);
    });

    test('has no folder left when its last file is gone', async () => {
      await write('a/b/c');
      await driver.delete('a/b/c');
      expect(await write('a/b')).toMatchObject({ path: 'a/b' });
      await driver.delete('a/b');
      expect(await write('a')).toMatchObject({ path: 'a' });
    });

    test('never has a file below a file, nor one in the place of a folder', async () => {
      await write('a/b');
      for (const overwrite of [false, true]) {
        expect(await write('a', 'x', overwrite)).toBe('taken');
        expect(await write('a/b/c', 'x', overwrite)).toBe('taken');
      }
      expect(await driver.open('a')).toBeUndefined();
      expect(await driver.open('a/b/c')).toBeUndefined();
      expect(await paths()).toEqual(['a/b']);
    });

    test('keeps the old file when a write breaks off, and lists nothing new', async () => {
      await write('a', 'one');
      const broken: Content = {
        sizeBytes: 10,
        // biome-ignore lint/correctness/useYield: it fails before there is anything
        async *open() {
          throw new Error('cut');
        },
      };
      await expect(driver.write('a', broken, true)).rejects.toThrow('cut');
      await expect(driver.write('b', broken, false)).rejects.toThrow('cut');
      expect(await read('a')).toBe('one');
      expect(await paths()).toEqual(['a']);
    });

    test('gives a reader the whole old file while it is overwritten and deleted', async () => {
      const [old, fresh] = ['o'.repeat(300_000), 'n'.repeat(300_000)];
      await write('a', old);
      const file = await driver.open('a');
      await write('a', fresh, true);
      await driver.delete('a');
      expect(await text(file!.read({ start: 0, end: file!.sizeBytes }))).toBe(old);
    });

    test('has one winner when many write one path at once', async () => {
      const written = await Promise.all(Array.from({ length: 20 }, (_, i) => write('a/b', `${i}`)));
      const winners = written.flatMap((result, i) => (result === 'taken' ? [] : [`${i}`]));
      expect(winners).toHaveLength(1);
      expect(await read('a/b')).toBe(winners[0]);
    });

    test('loses nothing when files come and go in one folder at once', async () => {
      await Promise.all(
        Array.from({ length: 6 }, async (_, i) => {
          for (let round = 0; round < 5; round++) {
            await write(`x/y/${i}`);
            expect(await driver.delete(`x/y/${i}`)).toBe(1);
          }
          await write(`x/y/${i}`);
        }),
      );
      expect(await paths('x')).toHaveLength(6);
    });

    test('takes names that mean something elsewhere for names', async () => {
      const odd = ['%2e%2e%2fevil', '...', 'a#b?c', '-rf', '~', '__proto__', 'CON', 'a b/ c', '$(id)', '*'];
      for (const path of odd) await write(path);
      expect(await paths()).toEqual(odd.toSorted());
      for (const path of odd) expect(await read(path)).toBe(path);
    });

    test('can be destroyed twice', async () => {
      await write('a/b');
      await driver.destroy();
      await driver.destroy();
      expect(await paths()).toEqual([]);
    });
  });
}
