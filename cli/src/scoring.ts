// Calls a web service: at its scoring address, with its key. Never with the user's token: the gateway is another place.
import { fetchOf } from '@stellwerk/client/connection.ts';
import { Unreachable } from '@stellwerk/client/failures.ts';
import type { Session } from './session.ts';

export type Score = (body: string, contentType: string) => Promise<{ status: number; text: string }>;

export async function scoreWith(session: Session, service: string, key: string | undefined): Promise<Score> {
  const client = await session.client();
  const which = { workspace: session.workspace, service };
  const { scoringUri, authentication } = await client.services.get(which);
  const used = authentication === 'none' ? undefined : (key ?? (await client.services.getKeys(which)).primary);
  const send = await fetchOf({ caBundle: session.caBundle });
  return async (body, contentType) => {
    const headers = { 'content-type': contentType, ...(used ? { authorization: `Bearer ${used}` } : {}) };
    const response = await send(scoringUri, { method: 'POST', headers, body, redirect: 'error' }).catch((error) => {
      throw new Unreachable(scoringUri, error);
    });
    return { status: response.status, text: await response.text() };
  };
}
