// How soon a point that a script logged is in the API, and what logging costs the script's loop: a run on the server's host, as a user submits it.

import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { uploadSnapshot } from '@stellwerk/client/snapshots.ts';
import type { Run } from '@stellwerk/contract/run.ts';
import { endStates } from '@stellwerk/contract/run-state.ts';
import { type Figure, median } from './figure.ts';
import { Product, workspace } from './product.ts';

export const names = ['visible', 'slowed'];
const lookEveryMs = 5;

export async function* measure(): AsyncIterable<Figure> {
  await using product = await Product.start();
  const { client } = product;
  const { digest: snapshot } = await uploadSnapshot(client, workspace, join(import.meta.dirname, 'logging'));
  const configuration = { script: 'train.py', target: 'host', environment: { userManaged: true } };
  const { id: run } = await client.runs.submit({ workspace, experiment: 'visible', configuration, snapshot });
  const seen = new Map<number, number>();
  let record: Run;
  do {
    const { items } = await client.metrics.list({ workspace, run, name: 'marked' });
    const logged = items[0]?.last;
    if (typeof logged === 'number' && !seen.has(logged)) seen.set(logged, Date.now() - logged);
    await pause(lookEveryMs);
    record = await client.runs.get({ workspace, run });
  } while (!endStates.includes(record.state));
  if (record.state !== 'completed') throw new Error(`The run ${record.state}: ${record.lastLines?.join('\n')}`);
  const { items } = await client.metrics.list({ workspace, run, name: 'slowed' });
  yield { name: 'visible', ours: median([...seen.values()]), peer: null, unit: 'ms' };
  yield { name: 'slowed', ours: Number(items[0]!.last), peer: null, unit: '%' };
}
