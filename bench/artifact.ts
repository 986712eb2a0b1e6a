// 1 GB up to a run and down again through the server, by the Python clients of both; and by how much the server grows meanwhile.

import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Figure, median } from './figure.ts';
import { Peer } from './peer.ts';
import { Product } from './product.ts';
import { answerOf } from './python.ts';

export const names = ['artifact', 'artifact-up', 'artifact-down', 'artifact-memory'];
const megabytes = 1_000;
const rounds = 3;

export async function* measure(): AsyncIterable<Figure> {
  const folder = mkdtempSync(join(tmpdir(), 'stellwerk-bench-artifact-'));
  try {
    const file = join(folder, 'artifact.bin');
    await fill(file);
    const ours = await of(await Product.start(), ({ environment }) =>
      answerOf('artifact.py', ['stellwerk', file, `${rounds}`], environment),
    );
    const peers = await of(await Peer.start(), ({ environment, python }) =>
      answerOf('artifact.py', ['mlflow', file, `${rounds}`], environment, python),
    );
    yield { name: 'artifact', ours: ours.both, peer: peers.both, unit: 'MB/s' };
    yield { name: 'artifact-up', ours: ours.up, peer: peers.up, unit: 'MB/s' };
    yield { name: 'artifact-down', ours: ours.down, peer: peers.down, unit: 'MB/s' };
    yield { name: 'artifact-memory', ours: ours.grownMb, peer: peers.grownMb, unit: 'MB' };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function fill(file: string): Promise<void> {
  await using handle = await open(file, 'wx');
  const block = randomBytes(1_000_000);
  for (let written = 0; written < megabytes; written++) await handle.write(block);
}

type Side = AsyncDisposable & { memoryMb: number };

async function of<T extends Side>(started: T, transfer: (side: T) => Promise<[number, number][]>) {
  await using side = started;
  const before = side.memoryMb;
  let highest = before;
  const watch = setInterval(() => {
    highest = Math.max(highest, side.memoryMb);
  }, 100);
  const times = await transfer(side).finally(() => clearInterval(watch));
  const rate = (seconds: number[], bytes = megabytes) => bytes / median(seconds);
  return {
    up: rate(times.map(([up]) => up)),
    down: rate(times.map(([, down]) => down)),
    both: rate(
      times.map(([up, down]) => up + down),
      2 * megabytes,
    ),
    grownMb: highest - before,
  };
}
