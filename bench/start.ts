// From starting the process to its first answer, and the resident memory of the server with all its processes once it has nothing to do.
import { setTimeout as pause } from 'node:timers/promises';
import { type Figure, median } from './figure.ts';
import { Peer } from './peer.ts';
import { Product } from './product.ts';

export const names = ['start', 'idle'];
const settleMs = 3_000;

export async function* measure(): AsyncIterable<Figure> {
  const ours = await startedThrice(() => Product.start());
  const peers = await startedThrice(() => Peer.start());
  yield { name: 'start', ours: ours.readyMs, peer: peers.readyMs, unit: 'ms' };
  yield { name: 'idle', ours: ours.memoryMb, peer: peers.memoryMb, unit: 'MB' };
}

type Started = AsyncDisposable & { readyMs: number; memoryMb: number };

async function startedThrice(start: () => Promise<Started>): Promise<{ readyMs: number; memoryMb: number }> {
  const ready: number[] = [];
  const memory: number[] = [];
  for (let round = 0; round < 3; round++) {
    await using started = await start();
    ready.push(started.readyMs);
    await pause(settleMs);
    memory.push(started.memoryMb);
  }
  return { readyMs: median(ready), memoryMb: median(memory) };
}
