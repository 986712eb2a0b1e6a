// A gigabyte on its way in is cut in the middle of one request: it goes on from what has arrived, and the server's memory does not grow with it.
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createReadStream, readFileSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { request } from 'node:http';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { CuttingProxy } from './cutting-proxy.ts';
import { Installation } from './installation.ts';
import { until } from './waiting.ts';
import { workFolder } from './work-folder.ts';

const workspace = 'story';
const pieceBytes = 16 * 1024 * 1024;
const pieces = 64;
const sizeBytes = pieces * pieceBytes;
const cutAfterBytes = sizeBytes / 2 + 12_345;
/** Far below what is sent, far above what a server takes for itself. */
const growthBytes = 250 * 1024 * 1024;

async function gigabyte(file: string): Promise<`sha256:${string}`> {
  const piece = randomBytes(pieceBytes);
  const hash = createHash('sha256');
  await using handle = await open(file, 'w');
  for (let n = 0; n < pieces; n++) {
    piece.writeUInt32LE(n);
    hash.update(piece);
    await handle.write(piece);
  }
  return `sha256:${hash.digest('hex')}`;
}

/** The most memory that the process has had since the last call, in bytes. */
function peakOf(pid: number): number {
  const peak = Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) * 1024;
  writeFileSync(`/proc/${pid}/clear_refs`, '5');
  return peak;
}

test('a gigabyte whose connection is cut in the middle goes on from where it was, and no memory is taken for it', async () => {
  await using installation = await Installation.start();
  const { client } = installation;
  const file = join(workFolder(installation.folder, {}), 'big.bin');
  const digest = await gigabyte(file);
  peakOf(installation.pid);
  const before = peakOf(installation.pid);

  await using proxy = await CuttingProxy.before(installation.url);
  proxy.cutAfterBytes = cutAfterBytes;
  const put = request(`${proxy.url}/api/v1/workspaces/${workspace}/blobs/${digest}?offset=0&sizeBytes=${sizeBytes}`, {
    method: 'PUT',
    headers: { authorization: `Bearer ${installation.token}`, 'content-type': 'application/octet-stream' },
  });
  const source = createReadStream(file);
  source.pipe(put);
  await once(put, 'error');
  source.destroy();
  const [cut] = proxy.passed;
  expect(cut).toMatchObject({ cut: true });
  const state = await until('the server has taken what had come', async () => {
    const found = await client.blobs.get({ workspace, digest });
    return found.receivedBytes > sizeBytes / 3 && found;
  });
  expect(state.complete).toBe(false);
  expect(state.receivedBytes).toBeLessThanOrEqual(cut!.sentBytes);

  const env = { STELLWERK_URL: proxy.url, STELLWERK_TOKEN: installation.token };
  const uploaded = await installation.cli(['datastore', 'upload', 'default', file, 'big.bin'], { env });
  expect(uploaded.code, uploaded.stderr).toBe(0);
  const later = proxy.passed.slice(1).reduce((sum, { sentBytes }) => sum + sentBytes, 0);
  expect(later).toBeLessThan(sizeBytes - state.receivedBytes + 10_000_000);

  const { defaultDatastore: datastore } = await client.workspaces.get({ workspace });
  const back = await client.datastores.getFile({ workspace, datastore, path: 'big.bin' });
  const hash = createHash('sha256');
  for await (const chunk of back.body as AsyncIterable<Uint8Array>) hash.update(chunk);
  expect(`sha256:${hash.digest('hex')}`).toBe(digest);
  expect(peakOf(installation.pid) - before).toBeLessThan(growthBytes);

  const saved = await installation.cli(['backup', join(installation.folder, 'all.tar')]); // and reads it back
  expect(saved.code, saved.stderr).toBe(0);
  expect(peakOf(installation.pid) - before).toBeLessThan(growthBytes);
});
