import { mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { listSnapshot } from './snapshot-listing.ts';

it('lists ten thousand files, the same again, and notices the one that changed in place', {
  timeout: 120_000,
}, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'ten thousand ü '));
  const cacheFolder = mkdtempSync(join(tmpdir(), 'cache '));
  try {
    const old = new Date(Date.now() - 60_000);
    for (let at = 0; at < 100; at++) mkdirSync(join(folder, `d${at}`));
    for (let at = 0; at < 10_000; at++) {
      const place = join(folder, `d${at % 100}`, `f${at}`);
      writeFileSync(place, `${at}`);
      utimesSync(place, old, old);
    }
    await new Promise((resolve) => setTimeout(resolve, 2_100)); // until the times of change are settled
    const first = await listSnapshot(folder, { cacheFolder });
    expect(first.files).toHaveLength(10_000);
    expect(await listSnapshot(folder, { cacheFolder })).toEqual(first);
    writeFileSync(join(folder, 'd0/f0'), 'x');
    utimesSync(join(folder, 'd0/f0'), old, old);
    expect((await listSnapshot(folder, { cacheFolder })).digest).not.toBe(first.digest);
  } finally {
    for (const made of [folder, cacheFolder]) rmSync(made, { recursive: true });
  }
});
