// Every verb, asked with what its schema names but nobody would give. The server answers each with what the contract says, and none
// with a fault of its own.

import type { Client } from '@stellwerk/client/client.ts';
import { uploadSnapshot } from '@stellwerk/client/snapshots.ts';
import { uploadFile } from '@stellwerk/client/uploads.ts';
import { type ErrorBody, ServiceError, statusOf } from '@stellwerk/contract/errors.ts';
import type { Verb } from '@stellwerk/contract/verb.ts';
import { eachVerb } from '@stellwerk/contract/verbs.ts';
import { expect, test } from 'vitest';
import { known, requestOf, texts } from './hostile-input.ts';
import { Installation } from './installation.ts';
import { workFolder } from './work-folder.ts';

const rounds = Number(process.env.HOSTILE_ROUNDS ?? 10);
/** What would take away what the others are asked with. */
const sawingOff = new Set(['signIns.delete', 'users.update', 'users.delete', 'workspaces.delete']);

/** Something of each kind that answers to the name `a`, for the requests to come further than its absence. */
async function furnish({ workspace, folder }: Installation, client: Client): Promise<void> {
  const { digest } = await uploadFile(client, workspace, Buffer.from('numpy==2.1.0\n'));
  const file = { path: 'a', digest };
  await client.models.register({ workspace, name: 'a', files: [file] });
  await client.datastores.putFile({ workspace, datastore: 'workspacestore', ...file, overwrite: true });
  const project = workFolder(folder, { a: 'print(1)', 'main.py': 'print(1)' });
  const snapshot = await uploadSnapshot(client, workspace, project);
  const run = await client.runs.start({ workspace, experiment: 'a' });
  Object.assign(known, { snapshot: snapshot.digest, run: run.id });
  texts.push(digest, snapshot.digest, run.id, 'a', 'a', 'a');
}

/** What is wrong with an answer, if anything. */
async function flawOf(verb: Verb, answer: Response): Promise<string | undefined> {
  if (!answer.headers.get('content-type')?.startsWith('application/json')) {
    await answer.body?.cancel();
    return answer.ok ? undefined : `${answer.status} without a reason`;
  }
  const body: unknown = await answer.json();
  if (answer.ok) {
    const checked = verb.transport === 'json' || verb.transport === 'upload' ? verb.output.safeParse(body) : undefined;
    return checked?.error && `answered ${JSON.stringify(body).slice(0, 500)}: ${checked.error.message.slice(0, 500)}`;
  }
  const { code, message, hint } = body as ErrorBody;
  const isGood = answer.status < 500 && statusOf[code] === answer.status && message !== '' && hint !== '';
  return isGood ? undefined : `${answer.status} ${JSON.stringify(body)}`;
}

test('whatever is asked, the answer is one of the contract, and never a fault of the server', async () => {
  await using installation = await Installation.start();
  const { token } = await installation.client.tokens.create({ name: 'story' });
  const client = installation.clientWith(token); // setting a password ends other sign-ins
  const flaws: string[] = [];
  const done = new Set<string>();
  const verbs = eachVerb().filter(({ name }) => !sawingOff.has(name));
  const ask = async (name: string, verb: Verb) => {
    const { address, init } = requestOf(verb, installation.url);
    const headers = { ...init.headers, authorization: `Bearer ${token}` };
    const signal = AbortSignal.timeout(verb.transport === 'json' ? 60_000 : 1_500); // some streams have no end
    try {
      const answer = await fetch(address, { ...init, headers, signal });
      const flaw = await flawOf(verb, answer);
      if (answer.ok) done.add(name);
      if (flaw) flaws.push(`${name} ${address.slice(0, 600)} ${String(init.body ?? '').slice(0, 600)}\n  ${flaw}`);
    } catch (error) {
      if ((error as Error).name !== 'TimeoutError' || verb.transport === 'json')
        flaws.push(`${name} ${address.slice(0, 600)}\n  ${String(error)} ${String((error as Error).cause)}`);
    }
  };
  for (let round = 0; round < rounds; round++) {
    // What was asked before may have archived or deleted what it would be part of.
    if (round % 5 === 0)
      await furnish(installation, client).catch((error) => {
        if (round === 0 || !(error instanceof ServiceError) || error.status >= 500) throw error;
      });
    await Promise.all(verbs.map(({ name, declaration }) => ask(name, declaration)));
  }
  expect(flaws.join('\n')).toBe('');
  expect(done.size).toBeGreaterThan(verbs.length / 3); // enough of it came through
});
