// What of the requests goes to the audit log: every change, and every refusal; not what is only looked at, nor what runs report all the time.
import { ServiceError } from '@stellwerk/contract/errors.ts';
import { limits } from '@stellwerk/contract/values.ts';
import type { Verb } from '@stellwerk/contract/verb.ts';
import type { FastifyRequest } from 'fastify';
import type { Access, Caller } from '../access/access.ts';

export interface Deed {
  name: string;
  verb: Verb;
  request: FastifyRequest;
  caller: Caller;
  /** As far as it is known. */
  input: Record<string, unknown>;
}

export async function recordDone(access: Access, deed: Deed): Promise<void> {
  if (isRecorded(deed.verb)) await access.audit.record({ ...entryOf(deed), outcome: 'done' });
}

export async function recordError(access: Access, deed: Deed, error: unknown): Promise<void> {
  if (!isRecorded(deed.verb) && !isRefusal(error)) return;
  if (deed.caller.kind === 'stranger' && deed.verb.permission !== 'public') return; // anybody could fill the log
  const reason = error instanceof ServiceError ? error.reason : 'server.internal';
  const outcome = isRefusal(error) ? 'refused' : 'failed';
  await access.audit.record({ ...entryOf(deed), outcome, reason }).catch(() => {}); // the first error matters more
}

function isRecorded(verb: Verb): boolean {
  if (verb.method === 'GET' || verb.permission === 'read') return false;
  if (verb.path.endsWith('/sessions/{session}')) return false; // that it was opened is written down
  const isReport = verb.runToken === 'run' || verb.runToken === 'upload' || verb.runToken === 'datastore';
  return !isReport || verb.path.endsWith('/cancel');
}

function isRefusal(error: unknown): boolean {
  if (!(error instanceof ServiceError)) return false;
  return error.code === 'permission-denied' || error.reason === 'access.password-wrong';
}

/** What tells what it was done to, beside the fields of the path. */
const naming = new Set(['name', 'id', 'user']);

function entryOf({ name, verb, request, caller, input }: Deed) {
  const subject = Object.entries(input)
    .filter(([field]) => field !== 'workspace' && (verb.path.includes(`{${field}}`) || naming.has(field)))
    .map(([, value]) => String(value))
    .join('/')
    .slice(0, limits.pathLength);
  return {
    caller,
    verb: name,
    workspace: typeof input.workspace === 'string' ? input.workspace : undefined,
    subject: subject === '' ? undefined : subject,
    address: request.ip,
  };
}
